"""Safetensors files: written whole or not at all, read within bounds."""

import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prunekit.errors import RunError
from prunekit.run import replacing
from prunekit_runtime.failures import is_out_of_memory

MAX_HEADER_BYTES: Final = 1 << 24
"""Names and places of some 100 000 tensors; the format itself allows six times as much."""
_SYSTEM_ERROR: Final = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; a kill, or a disk that is full, leaves the old file or the new one.

    Raises:
        OSError: the system refuses.
    """
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise _system_error(error) from None


def read_tensors(path: Path, remedy: str, *, expected_bytes: int) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Read a safetensors file of anyone: tensors on the CPU, by name, and the metadata.

    Args:
        path: the file.
        remedy: the last sentence of an error.
        expected_bytes: what the tensors take where the file is right; one that is larger is not read.

    Raises:
        RunError: the file is missing, damaged or too large.
    """
    _check_size(path, remedy, expected_bytes + MAX_HEADER_BYTES)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  no dict
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        # Beside its own error, the library lets through what torch says of a type or a shape that it cannot make.
        raise RunError(f"{path} is damaged: {first_line(error)}. {remedy}") from None


def size_bytes(tensors: Iterable[Tensor]) -> int:
    """Return what tensors take in a file, headers aside."""
    return sum(tensor.nbytes for tensor in tensors)


def _check_size(path: Path, remedy: str, most_bytes: int) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = file.read(8)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. {remedy}") from None
    if size > most_bytes:
        raise RunError(f"{path} does not fit the network: {size} bytes, at most {most_bytes} expected. {remedy}")
    header = int(struct.unpack("<Q", length)[0]) if len(length) == 8 else 0  # safetensors' README, "Format"
    if not 2 <= header <= min(MAX_HEADER_BYTES, size):
        raise RunError(f"{path} is damaged: a header of {header} bytes in a file of {size}. {remedy}")


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, without a full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _system_error(error: SafetensorError) -> Exception:
    """Return what the system said, which the library hands on as a text."""
    found = _SYSTEM_ERROR.search(str(error))
    if found is None:
        return error
    number = int(found.group(1))
    return OSError(number, os.strerror(number))
