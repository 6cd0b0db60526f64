"""Weight files of anyone, read as plain tensors: safetensors, or torch's own format without running code from it."""

import contextlib
import re
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

from prunekit.errors import ModelError, ModelUsageError, RunError
from prunekit.tensorfile import MAX_HEADER_BYTES, first_line, read_tensors
from prunekit_runtime.failures import is_out_of_memory
from prunekit_runtime.near import near_path

TORCH_SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES: Final = (".safetensors", *TORCH_SUFFIXES)
PLAUSIBLE_BYTES: Final = 64 << 20
PLAUSIBLE_RATIO: Final = 16
"""A checkpoint may be this large whatever its network, or this many times the network: weights, an average of them and
the optimiser's moments make five, in float64 ten."""
_DEPTH: Final = 5  # mappings inside mappings that are looked into
_FORBIDDEN: Final = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class Part:
    """A mapping in a file that holds tensors: `place` is how to get there, "state_dict" or "ema.shadow"."""

    place: str
    tensors: Mapping[str, Tensor]


def read_parts(path: Path, network_bytes: int) -> tuple[Part, ...]:
    """Return the mappings of tensors in a weight file, the outermost first.

    Args:
        path: a .safetensors file, or one that torch.save wrote.
        network_bytes: what the weights of the network at hand take; a file out of all proportion to it is not read.

    Raises:
        ModelError: the file is missing, too large, damaged, holds code or no tensor.
    """
    most_bytes = PLAUSIBLE_BYTES + PLAUSIBLE_RATIO * network_bytes
    _check_file(path, most_bytes)
    if path.suffix == ".safetensors":
        try:
            tensors, _ = read_tensors(path, _REMEDY, expected_bytes=most_bytes)
        except RunError as error:
            raise ModelError(str(error)) from None
        parts = (Part("", tensors),)
    else:
        parts = tuple(_parts("", _unpickled(path, most_bytes), 0, set()))
    if not any(part.tensors for part in parts):
        raise ModelUsageError(f"{path} holds no tensors. Save a state dict: torch.save(model.state_dict(), FILE).")
    return parts


def _check_file(path: Path, most_bytes: int) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise ModelUsageError(f"The file of weights {path} does not exist.{near_path(path)}") from None
    except OSError as error:
        raise ModelUsageError(f"The weights {path} cannot be read: {error.strerror}. Check the path.") from None
    if stat.S_ISDIR(found.st_mode):
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in SUFFIXES)[:3]
        advice = f"Name a file in it, such as {path / inside[0]}" if inside else "Name a file"
        raise ModelUsageError(f"The weights {path} are a folder. {advice}.")
    if not stat.S_ISREG(found.st_mode):
        raise ModelUsageError(f"The weights {path} are not a regular file. Name a file.")
    if path.suffix not in SUFFIXES:
        raise ModelUsageError(
            f"Weights are read from {', '.join(SUFFIXES)}, got {path.name}. Save them as one of these."
        )
    if found.st_size > most_bytes + MAX_HEADER_BYTES:
        raise ModelError(
            f"{path} holds {found.st_size} bytes, and at most {most_bytes + MAX_HEADER_BYTES} are read for this "
            f"network. Is it the network's file? If so, save the state dict alone. {_REMEDY}"
        )


def _unpickled(path: Path, most_bytes: int) -> object:
    _check_archive(path, most_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages in old files; nothing that a user could do about
            return cast(object, torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file ends in any error at all
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{path} {_what_is_wrong(error)}. {_REMEDY}") from None


def _what_is_wrong(error: Exception) -> str:
    text = str(error)
    if "TorchScript" in text:
        return "is a TorchScript archive, which is a program"
    forbidden = _FORBIDDEN.search(text)
    if forbidden is not None:
        return f"holds an object of {forbidden[1][:100]}, which only code can make; nothing of it was run"
    return f"cannot be read as what torch.save writes: {first_line(error)[:200]}"


def _check_archive(path: Path, most_bytes: int) -> None:
    """Refuse an archive whose entries are larger unpacked than the file may be."""
    with contextlib.suppress(zipfile.BadZipFile):  # torch's format before 1.6, or no archive at all: torch says so
        with zipfile.ZipFile(path) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        if unpacked_bytes > most_bytes + MAX_HEADER_BYTES:
            raise ModelError(
                f"{path} unpacks to {unpacked_bytes} bytes, and at most {most_bytes + MAX_HEADER_BYTES} are read for "
                f"this network. {_REMEDY}"
            )


def _parts(place: str, value: object, depth: int, seen: set[int]) -> Iterator[Part]:
    """Yield a mapping, those inside it, and these as one; what is no tensor, such as an epoch, is passed over."""
    if not isinstance(value, Mapping) or depth > _DEPTH or id(cast(object, value)) in seen:
        return
    seen.add(id(cast(object, value)))  # a few bytes can hold one mapping in a thousand places
    entries = {key: entry for key, entry in cast(Mapping[Any, object], value).items() if isinstance(key, str)}
    tensors = {key: entry for key, entry in entries.items() if isinstance(entry, Tensor) and _is_plain(entry)}
    if tensors:
        yield Part(place, {key: entry.detach() for key, entry in tensors.items()})
    inside: list[Part] = []
    for key, entry in entries.items():
        found = list(_parts(key, entry, depth + 1, seen))
        inside += found[-1:]  # the last one holds all that is in the entry
        yield from (replace(part, place=_joined(place, part.place)) for part in found)
    if len(inside) > 1 or (inside and tensors):
        everything = {_joined(part.place, name): tensor for part in inside for name, tensor in part.tensors.items()}
        yield Part(place, {**tensors, **everything})


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"


_REMEDY: Final = (
    "Where you have the model, save its weights alone: torch.save(model.state_dict(), FILE), "
    "or safetensors.torch.save_file(model.state_dict(), FILE)."
)
