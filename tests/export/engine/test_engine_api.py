"""The names that engine.py uses, against the recorded surfaces of every supported TensorRT: no GPU, no install."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunekit_export.engine.build
import prunekit_export.engine.options

# What each name in engine.py holds.
CLASS_OF = {
    "self.builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "self.parser": "OnnxParser",
    "error": "ParserError",
    "layer": "ILayer",
    "layer.get_output(0)": "ITensor",
    "shapes": "IOptimizationProfile",
    "network.get_input(0)": "ITensor",
}
# TensorRT-RTX alone builds ahead of time for named targets.
RTX_ONLY = {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability", "ComputeCapability"}
PYTHON = {"__version__", "__name__", "__members__", "__init__"}
SNAPSHOTS = sorted((Path(__file__).parent / "trt_api").glob("*.json"))
SOURCES = (prunekit_export.engine.build, prunekit_export.engine.options)
SOURCE = "\n".join(Path(source.__file__).read_text(encoding="utf-8") for source in SOURCES)


def used_names(source: str) -> set[str]:
    """Return "Class" for each trt.Class and "Class.member" for each member that the source uses or overrides."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found |= set(_of_attribute(node))
        elif isinstance(node, ast.ClassDef):
            found |= set(_overrides(node))
    return {name for name in found if name.rpartition(".")[2] not in PYTHON}


def _of_attribute(node: ast.Attribute) -> Iterator[str]:
    owner = ast.unparse(node.value).replace("self.trt", "trt")
    if owner == "trt":
        yield node.attr
    elif owner.startswith("trt."):
        yield f"{owner.removeprefix('trt.')}.{node.attr}"
    elif owner in CLASS_OF:
        yield f"{CLASS_OF[owner]}.{node.attr}"


def _overrides(node: ast.ClassDef) -> Iterator[str]:
    for base in map(ast.unparse, node.bases):
        if base.startswith("trt."):
            methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
            yield from (f"{base.removeprefix('trt.')}.{name}" for name in methods)


def missing(names: set[str], snapshot: Path) -> set[str]:
    api: dict[str, list[str]] = json.loads(snapshot.read_text())["api"]
    known = set(api) | {f"{name}.{member}" for name, members in api.items() for member in members} | {"OnnxParser"}
    return names - known


def test_snapshots_are_there() -> None:
    assert [path.stem.rpartition("_")[0] for path in SNAPSHOTS].count("tensorrt") == 5
    assert [path.stem.rpartition("_")[0] for path in SNAPSHOTS].count("tensorrt_rtx") == 1


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=lambda path: path.stem)
def test_every_name_exists(snapshot: Path) -> None:
    allowed = set() if "rtx" in snapshot.stem else RTX_ONLY
    assert missing(used_names(SOURCE), snapshot) == allowed


def test_the_check_sees_what_it_should() -> None:
    names = used_names(SOURCE)
    assert {"Builder", "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "ILayer.type", "ITensor.dtype"} <= names
    assert {"IProgressMonitor.step_complete", "ILogger.log", "OnnxParser.get_error", "ParserError.desc"} <= names
    assert len(names) > 25


def test_a_removed_name_is_found() -> None:
    newest = next(path for path in SNAPSHOTS if path.stem.startswith("tensorrt_11"))
    oldest = next(path for path in SNAPSHOTS if path.stem.startswith("tensorrt_10.3"))
    names = used_names("trt.BuilderFlag.FP16\nconfig.int8_calibrator\n")
    assert missing(names, newest) == {"BuilderFlag.FP16", "IBuilderConfig.int8_calibrator"}
    assert not missing(names, oldest)
