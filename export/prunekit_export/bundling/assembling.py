"""The parts of a bundle that are not the network: the runtime's own files, the notice, the manifest."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prunekit_runtime
from prunekit import __version__
from prunekit_export.sizing import MAX_DYNAMIC_BATCH
from prunekit_runtime.bundle import FileEntry, InputEntry, Manifest, ModelEntry
from prunekit_runtime.plainfile import sha256_of
from prunekit_runtime.running.device import describe_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunekit_runtime.bundle import GoldenEntry, Profile

MANIFEST = "bundle.json"
RUNTIME = "prunekit_runtime"
_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")


def copy_runtime(folder: Path) -> None:
    """Copy the runtime's Python files into a bundle, where `python3 -m prunekit_runtime` finds them."""
    source = Path(prunekit_runtime.__file__).parent
    for path in sorted(source.rglob("*.py")):
        target = folder / RUNTIME / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def model_entry(path: Path, folder: Path, precision: str) -> ModelEntry:
    """Describe an ONNX file of a bundle by what it declares itself."""
    import onnx

    from prunekit_export.graph import value_dims

    value = onnx.load_model(path, load_external_data=False).graph.input[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    shape = tuple(dim if isinstance(dim, int) else None for dim in value_dims(value))
    return ModelEntry(
        name=path.name.removesuffix(".onnx"),
        precision=precision,
        graph="labels" if dtype == "uint8" else "logits",
        file=path.relative_to(folder).as_posix(),
        input=InputEntry(value.name, dtype, shape),
    )


def usual_profile(entry: ModelEntry, height: int, width: int) -> Profile | None:
    """Return the sizes for an engine of a model with open sizes: from half to twice a size, 1 to 4 images."""
    if None not in entry.input_shape:
        return None
    usual = (1, height, width, 3) if entry.graph == "labels" else (1, 3, height, width)
    axes = list(zip(usual, entry.input_shape, strict=True))
    least = tuple(max(size // 2, 1) if fixed is None else size for size, fixed in axes)
    most = tuple(2 * size if fixed is None else size for size, fixed in axes)
    if entry.input_shape[0] is None:
        most = (MAX_DYNAMIC_BATCH, *most[1:])
    return {"min": least, "opt": usual, "max": most}


def notice(name: str, data: str) -> str:
    """Return the text of NOTICE.txt."""
    return (
        f"{name}: a bundle written by prunekit {__version__}\n\n"
        "prunekit_runtime/ is part of prunekit, under the Apache License 2.0\n"
        "(https://www.apache.org/licenses/LICENSE-2.0).\n\n"
        "models/ holds a network whose weights belong to whoever trained it. prunekit's license says nothing about\n"
        "them.\n\n"
        f"golden/ holds images and masks of the data set {data!r}. Its owner's terms say who may have copies of them.\n"
        "Look at these terms before you pass this folder on.\n"
    )


def build_host() -> dict[str, Any]:
    """Return where a bundle was made: the machine and the packages."""
    versions: dict[str, str] = {"prunekit": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"device": describe_device(), "packages": versions}


def seal(
    folder: Path, name: str, lineage: Sequence[str], models: Sequence[ModelEntry], golden: Sequence[GoldenEntry]
) -> Manifest:
    """Write bundle.json, which lists every file that is there with its hash."""
    files: dict[str, FileEntry] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha256, size_bytes = sha256_of(path)
        files[path.relative_to(folder).as_posix()] = FileEntry(size_bytes, sha256)
    written_by = f"prunekit {__version__}"
    manifest = Manifest(name, written_by, tuple(lineage), tuple(models), tuple(golden), files)
    write_json(folder / MANIFEST, manifest.to_json())
    return manifest


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
