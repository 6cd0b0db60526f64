"""bundle.json as plain values, checked one by one: it may come from anybody."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, TypeVar, cast

from prunekit_runtime.bundle.layout import BUILT, REPORTS, GoldenEntry, InputEntry, ModelEntry, Profile
from prunekit_runtime.preprocessing import MAX_SIDE

FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 22
MAX_FILES = 4096
MAX_BUNDLE_BYTES = 1 << 34
_MAX_BATCH = 1024
_MAX_TEXT = 500
_MAX_PARTS = 6
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = ("version", "name", "written_by", "lineage", "models", "golden", "files")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
GRAPHS = ("labels", "logits")
_DTYPES = {"labels": "uint8", "logits": "float32"}
Item = TypeVar("Item")


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of a file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What bundle.json says."""

    name: str
    written_by: str
    lineage: tuple[str, ...]
    models: tuple[ModelEntry, ...]
    golden: tuple[GoldenEntry, ...]
    files: Mapping[str, FileEntry]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "version": FORMAT_VERSION,
            "name": self.name,
            "written_by": self.written_by,
            "lineage": list(self.lineage),
            "models": [entry.to_json() for entry in self.models],
            "golden": [entry.to_json() for entry in self.golden],
            "files": {path: {"bytes": entry.size_bytes, "sha256": entry.sha256} for path, entry in self.files.items()},
        }

    @classmethod
    def from_json(cls, values: Any) -> "Manifest":
        """Read it.

        Raises:
            ValueError: something is missing, unknown, of another type or out of bounds; the message is a reason.
        """
        object_ = _object(values, "it", _KEYS)
        if object_["version"] != FORMAT_VERSION:
            raise ValueError(f"its version is {_short(object_['version'])}, and this runtime reads {FORMAT_VERSION}")
        files = _files(object_["files"])
        models = _all(object_["models"], "models", 64, lambda value: _model(value, files))
        golden = _all(object_["golden"], "golden", 256, lambda value: _golden(value, files))
        if not models or len({entry.name for entry in models}) != len(models):
            raise ValueError("its models have no names of their own")
        return cls(
            name=_text(object_["name"], "name"),
            written_by=_text(object_["written_by"], "written_by"),
            lineage=tuple(_all(object_["lineage"], "lineage", 64, lambda value: _text(value, "lineage"))),
            models=tuple(models),
            golden=tuple(golden),
            files=files,
        )


def is_path_inside(text: str) -> bool:
    """Tell whether a path of the manifest is plain: relative, of harmless letters, and not one made on the device."""
    parts = text.split("/")
    is_plain = len(parts) <= _MAX_PARTS and all(_PART.fullmatch(part) for part in parts)
    return is_plain and parts[0] not in (BUILT, REPORTS, "bundle.json")


def _files(values: Any) -> dict[str, FileEntry]:
    if not isinstance(values, dict) or not 0 < len(cast("dict[str, Any]", values)) <= MAX_FILES:
        raise ValueError(f"it lists no 1 to {MAX_FILES} files")
    files: dict[str, FileEntry] = {}
    for path, value in cast("dict[str, Any]", values).items():
        if not is_path_inside(path):
            raise ValueError(f"{_short(path)} is no path inside of it")
        object_ = _object(value, _short(path), ("bytes", "sha256"))
        size_bytes, sha256 = object_["bytes"], object_["sha256"]
        if not _is_integer(size_bytes) or not 0 <= size_bytes <= MAX_BUNDLE_BYTES:
            raise ValueError(f"the size of {_short(path)} is {_short(size_bytes)}")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError(f"the hash of {_short(path)} is {_short(sha256)}")
        files[path] = FileEntry(size_bytes, sha256)
    if sum(entry.size_bytes for entry in files.values()) > MAX_BUNDLE_BYTES:
        raise ValueError(f"its files are larger than {MAX_BUNDLE_BYTES} bytes")
    return files


def _model(value: Any, files: Mapping[str, FileEntry]) -> ModelEntry:
    object_ = _object(value, "a model", ("name", "precision", "graph", "file", "input", "profile"))
    name = object_["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"the model's name {_short(name)} is no name for a file")
    graph = _one_of(object_["graph"], GRAPHS, "graph")
    shape_of = _object(object_["input"], f"the input of {name}", ("name", "dtype", "shape"))
    dtype = _one_of(shape_of["dtype"], (_DTYPES[graph],), f"data type of the input of {name}")
    shape = _shape(shape_of["shape"], graph, open_allowed=True)
    profile = _profile(object_["profile"], graph, shape)
    return ModelEntry(
        name=name,
        precision=_one_of(object_["precision"], PRECISIONS, "precision"),
        graph=graph,  # type: ignore[arg-type]  # one of GRAPHS
        file=_listed(object_["file"], files),
        input=InputEntry(_text(shape_of["name"], "input"), dtype, shape),
        profile=profile,
    )


def _profile(value: Any, graph: str, shape: "tuple[Optional[int], ...]") -> Optional[Profile]:
    if value is None:
        if None in shape:
            raise ValueError("a model takes any size, and has no profile")
        return None
    object_ = _object(value, "a profile", ("min", "opt", "max"))
    sizes = {key: _closed(object_[key], graph) for key in ("min", "opt", "max")}
    for axis, fixed in enumerate(shape):
        least, tuned, most = (sizes[key][axis] for key in ("min", "opt", "max"))
        if not least <= tuned <= most or (fixed is not None and (least, most) != (fixed, fixed)):
            raise ValueError(f"a profile asks for {least}, {tuned}, {most} where the input has {fixed or 'any size'}")
    return sizes


def _closed(value: Any, graph: str) -> tuple[int, ...]:
    return tuple(cast(int, size) for size in _shape(value, graph, open_allowed=False))


def _shape(value: Any, graph: str, *, open_allowed: bool) -> "tuple[Optional[int], ...]":
    sizes = cast("list[Any]", value) if isinstance(value, list) else []
    channels = 3 if graph == "labels" else 1
    for axis, size in enumerate(sizes):
        most = {0: _MAX_BATCH, channels: 3}.get(axis, MAX_SIDE)
        least = 3 if axis == channels else 1
        if size is None and open_allowed and axis != channels:
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not least <= size <= most:
            raise ValueError(f"a model's input has the shape {_short(value)}")
    if len(sizes) != 4:
        raise ValueError(f"a model's input has the shape {_short(value)}")
    return tuple(sizes)


def _golden(value: Any, files: Mapping[str, FileEntry]) -> GoldenEntry:
    object_ = _object(value, "a golden picture", ("name", "picture", "labels", "truth", "logits"))
    optional = {key: None if object_[key] is None else _listed(object_[key], files) for key in ("truth", "logits")}
    return GoldenEntry(
        name=_text(object_["name"], "golden"),
        picture=_listed(object_["picture"], files),
        labels=_listed(object_["labels"], files),
        **optional,
    )


def _object(value: Any, what: str, keys: "tuple[str, ...]") -> "dict[str, Any]":
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    object_ = cast("dict[str, Any]", value)
    missing, unknown = [key for key in keys if key not in object_], sorted(set(object_) - set(keys))
    if missing or unknown:
        raise ValueError(f"{what} lacks {missing} and holds {[_short(key) for key in unknown[:5]]} besides")
    return object_


def _all(value: Any, what: str, most: int, parse: Callable[[Any], Item]) -> list[Item]:
    if not isinstance(value, list) or len(cast("list[Any]", value)) > most:
        raise ValueError(f"{what} is no list of up to {most}")
    return [parse(item) for item in cast("list[Any]", value)]


def _listed(value: Any, files: Mapping[str, FileEntry]) -> str:
    if not isinstance(value, str) or value not in files:
        raise ValueError(f"{_short(value)} is not among its files")
    return value


def _one_of(value: Any, known: "tuple[str, ...]", what: str) -> str:
    if value not in known:
        raise ValueError(f"the {what} is {_short(value)}, and {', '.join(known)} can be read")
    return cast(str, value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"{what} is no text of up to {_MAX_TEXT} characters")
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return repr(value)[:80]
