"""A bundle that was written by hand: two pictures, two models that nothing can run, and all that the manifest lists."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.bundle.layout import GoldenEntry, InputEntry, ModelEntry
from prunekit_runtime.bundle.manifest import FileEntry, Manifest
from prunekit_runtime.plainfile import sha256_of
from prunekit_runtime.preprocessing import Preprocessing

MODELS = (
    ModelEntry("fp32", "fp32", "logits", "models/fp32.onnx", InputEntry("images", "float32", (1, 3, 32, 48))),
    ModelEntry(
        "fp16",
        "fp16",
        "labels",
        "models/fp16.onnx",
        InputEntry("pictures", "uint8", (None, 64, 96, 3)),
        {"min": (1, 64, 96, 3), "opt": (1, 64, 96, 3), "max": (4, 64, 96, 3)},
    ),
)


def seal(folder: Path) -> None:
    """Write bundle.json for the files that are there."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "bundle.json")
    files = {}
    for path in paths:
        sha256, size_bytes = sha256_of(path)
        files[path.relative_to(folder).as_posix()] = FileEntry(size_bytes, sha256)
    golden = (GoldenEntry("00", "golden/00.png", "golden/00.labels.png"),)
    manifest = Manifest("0001-train", "prunekit 0", ("runs/0001-train",), MODELS, golden, files)
    (folder / "bundle.json").write_text(json.dumps(manifest.to_json()))


@pytest.fixture
def sealed() -> Callable[[Path], None]:
    """Return a function that writes bundle.json for the files that are there."""
    return seal


@pytest.fixture(scope="module")
def models() -> tuple[ModelEntry, ...]:
    """Return a bundle's models."""
    return MODELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a whole bundle."""
    root = tmp_path / "bundle"
    for path, content in {
        "preprocessing.json": json.dumps(Preprocessing(32, 48).to_json()),
        "classes.json": json.dumps({"names": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 142]]}),
        "models/fp32.onnx": "\x12\x07a model",
        "models/fp16.onnx": "\x12\x0danother model",
        "golden/00.png": "a picture",
        "golden/00.labels.png": "its labels",
        "NOTICE.txt": "Yours.",
        "prunekit_runtime/__init__.py": "",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    seal(root)
    return root


@pytest.fixture
def change(folder: Path) -> Callable[[Callable[[Any], None]], None]:
    """Return a function that changes what bundle.json says."""

    def changed(edit: Callable[[Any], None]) -> None:
        values = json.loads((folder / "bundle.json").read_text())
        edit(values)
        (folder / "bundle.json").write_text(json.dumps(values))

    return changed
