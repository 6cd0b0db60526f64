"""numpy's npz files of unknown origin: no pickle, known names and types only, memory bounded by what the data holds."""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prunekit_runtime.jsonfile import read_bounded

Arrays = dict[str, npt.NDArray[Any]]
_PACKING_BYTES = 1 << 20  # what packing may add


def read_npz(path: Path, required: Mapping[str, Any], optional: Mapping[str, Any], max_bytes: int) -> Arrays:
    """Return the arrays of a file.

    Args:
        path: the file.
        required: data type of each array that must be there.
        optional: data type of each that may be there.
        max_bytes: of all arrays, unpacked.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, too large, or holds something else; the message is a reason.
    """
    content = read_bounded(path, max_bytes + _PACKING_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read(archive, required, optional, max_bytes)
    except ValueError:
        raise
    except Exception as error:  # zip, its decoders and numpy's header let through whatever they trip over
        if isinstance(error, MemoryError) and not str(error).startswith("Parser"):
            raise
        raise ValueError(f"it is damaged: {error}") from error


def _read(archive: zipfile.ZipFile, required: Mapping[str, Any], optional: Mapping[str, Any], max_bytes: int) -> Arrays:
    members = {info.filename: info for info in archive.infolist()}
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in members.values()):
        raise ValueError("it is packed in a way that numpy does not write")
    needed = {f"{name}.npy" for name in required}
    if not needed <= set(members) <= needed | {f"{name}.npy" for name in optional} or len(members) != len(
        archive.infolist()
    ):
        raise ValueError(f"it holds {sorted(members)[:5]}, and {sorted(needed)} are needed")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > max_bytes:
        raise ValueError(f"it unpacks to {unpacked} bytes, above {max_bytes}")
    dtypes = {**required, **optional}
    # zipfile never yields more than the size it declares, so the sum above bounds the memory.
    return {name[:-4]: _parse_npy(archive.read(info), dtypes[name[:-4]]) for name, info in members.items()}


def _parse_npy(content: bytes, dtype: Any) -> npt.NDArray[Any]:
    # numpy's own reader allocates what the header claims before it looks at the data; here the data decides.
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"array format {version} is not 1.0")
    shape, by_column, found = np.lib.format.read_array_header_1_0(stream)
    body = content[stream.tell() :]
    if found != np.dtype(dtype) or by_column or math.prod(shape) * found.itemsize != len(body):
        raise ValueError(f"{found} {shape} is not {np.dtype(dtype)} of {len(body)} bytes")
    return np.frombuffer(body, dtype=found).reshape(shape)
