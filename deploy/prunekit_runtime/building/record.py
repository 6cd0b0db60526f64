"""The key of a build, kept beside it as JSON: what it belongs to, how it was asked for, and the hash of the engine."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from prunekit_runtime.building.machine import seal
from prunekit_runtime.errors import BuildUsageError
from prunekit_runtime.jsonfile import parse_json
from prunekit_runtime.plainfile import open_plain, sha256_of
from prunekit_runtime.text import printable_name

VERSION = 1
MAX_RECORD_BYTES = 1 << 20
_NAMES = {
    "onnx_sha256": "the ONNX file",
    "package": "TensorRT's package",
    "package_version": "its version",
    "gpu": "the GPU",
    "sm": "the compute capability",
    "driver": "the driver",
    "cuda_driver": "the driver's CUDA",
    "jetson_linux": "Jetson Linux",
    "architecture": "the processor",
}
_DAMAGED = "its key is missing or damaged"


@dataclass(frozen=True)
class Record:
    """One build."""

    entry: str
    precision: str
    graph: str
    bound_to: dict[str, Any]
    """File, TensorRT, GPU, driver and system; an engine runs where all of them are the same."""
    options: dict[str, Any]
    """As asked: sizes, TF32, level, workspace. Others ask for another engine, and this one still runs."""
    engine_sha256: str | None
    """None where the ONNX file itself is run."""
    engine_bytes: int
    made: dict[str, Any]
    """When, in how many seconds, with what TensorRT was really given, and what it computes in."""

    def to_json(self, root: Path = Path("/")) -> dict[str, Any]:
        """Return the record as a JSON object, with this machine's mark."""
        return {
            "version": VERSION,
            "entry": self.entry,
            "precision": self.precision,
            "graph": self.graph,
            "bound_to": self.bound_to,
            "options": self.options,
            "engine_sha256": self.engine_sha256,
            "engine_bytes": self.engine_bytes,
            "seal": seal(self._sealed(), root),
            "made": self.made,
        }

    def _sealed(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def read_record(path: Path, root: Path = Path("/")) -> "Record | str":
    """Read a record; where it cannot be followed, the reason, to be put after the name of what was built."""
    try:
        with open_plain(path) as file:
            content = file.read(MAX_RECORD_BYTES + 1)
        if len(content) > MAX_RECORD_BYTES:
            return _DAMAGED
        values = parse_json(content)
    except (OSError, ValueError):
        return _DAMAGED
    record = _checked(values)
    if record is None:
        return _DAMAGED
    if record.to_json(root)["seal"] != values.get("seal"):
        return "it was not built on this machine, or its key was changed"
    return record


def why_not(record: "Record | str", bound_to: Mapping[str, Any], plan: Path) -> str | None:
    """Return why an engine cannot be run here, or None where it can.

    Args:
        record: as read.
        bound_to: what an engine built now would belong to.
        plan: the engine, which is read whole for its hash.
    """
    if isinstance(record, str):
        return record
    changed = [key for key in bound_to if record.bound_to.get(key) != bound_to[key]]
    if changed:
        key = changed[0]
        was, is_now = (printable_name(str(values.get(key)))[:64] for values in (record.bound_to, bound_to))
        return f"{_NAMES.get(key, key)} was {was} then and is {is_now} now"
    try:
        sha256, _ = sha256_of(plan)
    except OSError as error:
        return f"the engine cannot be read: {error.strerror}"
    return None if sha256 == record.engine_sha256 else "the engine's bytes were changed since it was built"


def not_built(entry: str, reason: str) -> BuildUsageError:
    """Return the error for an engine that is not there, or does not fit."""
    return BuildUsageError(
        f"No engine of {entry} can be run here: {reason}. Build it: python3 -m prunekit_runtime build; "
        "or run the ONNX file on the CPU: --backend ort."
    )


def to_bytes(values: Any) -> bytes:
    """Return plain values as readable JSON."""
    return (json.dumps(values, indent=1) + "\n").encode()


def _checked(values: Any) -> "Record | None":
    if not isinstance(values, dict):
        return None
    fields = cast("dict[str, Any]", values)
    kinds = {
        "entry": str,
        "precision": str,
        "graph": str,
        "bound_to": dict,
        "options": dict,
        "engine_sha256": (str, type(None)),
        "engine_bytes": int,
        "made": dict,
    }
    if fields.get("version") != VERSION or not all(isinstance(fields.get(key), kind) for key, kind in kinds.items()):
        return None
    return Record(**{key: fields[key] for key in kinds})
