"""What the head of a safetensors file says, without its tensors."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from prunekit_runtime.jsonfile import parse_json

MAX_HEADER_BYTES: Final = 1 << 24
_ITEM_BYTES: Final = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "I8": 1, "BOOL": 1}
_BUFFERS: Final = ("running_mean", "running_var", "num_batches_tracked")  # of norms: kept, and no parameters


def read_header(path: Path) -> Mapping[str, Any]:
    """Return the head of a safetensors file.

    Raises:
        OSError: the system refuses.
        ValueError: it is none; the message is a reason.
    """
    if not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else math.inf
        if length > MAX_HEADER_BYTES:
            raise ValueError("it does not begin as a safetensors file")
        values = parse_json(file.read(int(length)))
    if not isinstance(values, dict):
        raise ValueError("its head is no JSON object")
    return cast("Mapping[str, Any]", values)


def parameters(header: Mapping[str, Any]) -> int | None:
    """Return how many parameters lie in the file, running statistics of norms aside; None where it does not say."""
    count = 0
    for name, entry in header.items():
        if name == "__metadata__" or name.endswith(_BUFFERS):
            continue
        item_bytes = _ITEM_BYTES.get(str(entry.get("dtype"))) if isinstance(entry, dict) else None
        offsets = entry.get("data_offsets") if item_bytes is not None else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(place, int) for place in offsets)):
            return None
        count += max(0, offsets[1] - offsets[0]) // cast(int, item_bytes)
    return count


def epochs_done(header: Mapping[str, Any]) -> int | None:
    """Return how many epochs a checkpoint holds; None where it does not say."""
    metadata = header.get("__metadata__")
    text = metadata.get("prunekit") if isinstance(metadata, dict) else None
    try:
        counts = json.loads(text) if isinstance(text, str) and len(text) < 1 << 16 else None
    except (ValueError, RecursionError):
        return None
    done = counts.get("epochs_done") if isinstance(counts, dict) else None
    return done if isinstance(done, int) and 0 <= done < 10**9 else None
