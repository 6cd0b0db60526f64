"""Every name of TensorRT that the building code uses exists in five TensorRT releases and in TensorRT-RTX."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunekit_runtime.building

API: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "builder_api.json").read_text())
FILES = sorted(Path(prunekit_runtime.building.__file__).parent.glob("*.py"))
# What each name in the sources holds.
CLASS_OF = {
    "self.builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "network.get_input(0)": "ITensor",
    "layer.get_output(0)": "ITensor",
    "self.parser": "OnnxParser",
    "error": "ParserError",
    "shapes": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "cache": "ITimingCache",
}
IN_COMPILING = {"layer": "ILayer"}  # elsewhere a layer is our own
PYTHON = {"__init__", "__version__"}


def used(path: Path) -> set[str]:
    """Return "Class.member" for each member that a file uses or overrides, and "Class" for each trt.Class."""
    classes = CLASS_OF | (IN_COMPILING if path.stem == "compiling" else {})
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            found |= set(_of_attribute(node, classes if path.stem == "compiling" else {}))
        elif isinstance(node, ast.ClassDef):
            found |= set(_overrides(node))
    return {name for name in found if name.rpartition(".")[2] not in PYTHON}


def _of_attribute(node: ast.Attribute, classes: dict[str, str]) -> Iterator[str]:
    owner = ast.unparse(node.value)
    if owner == "trt":
        yield node.attr
    elif owner.startswith("trt."):
        yield f"{owner.removeprefix('trt.')}.{node.attr}"
    elif owner in classes:
        yield f"{classes[owner]}.{node.attr}"


def _overrides(node: ast.ClassDef) -> Iterator[str]:
    for base in map(ast.unparse, node.bases):
        if base.startswith("trt."):
            methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
            yield from (f"{base.removeprefix('trt.')}.{name}" for name in methods)


def missing(names: set[str], version: str) -> set[str]:
    api = API[version]
    return names - set(api) - {f"{name}.{member}" for name, members in api.items() for member in members}


ALL = set[str]().union(*map(used, FILES))


def test_six_surfaces_are_recorded() -> None:
    assert [version.split()[0] for version in API].count("tensorrt") == 5
    assert [version.split()[0] for version in API].count("tensorrt_rtx") == 1


@pytest.mark.parametrize("version", sorted(API))
def test_every_name_exists(version: str) -> None:
    assert not missing(ALL, version)


def test_the_check_sees_what_the_code_uses() -> None:
    assert {
        "Builder.build_serialized_network",
        "IBuilderConfig.progress_monitor",
        "IBuilderConfig.set_timing_cache",
        "BuilderFlag.TF32",
        "EngineInspector.get_layer_information",
        "EngineInspector.execution_context",
        "ICudaEngine.create_engine_inspector",
        "ILayer.metadata",
        "ITensor.dtype",
        "ITimingCache.serialize",
        "IProgressMonitor.step_complete",
        "ILogger.log",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    } <= ALL


def test_a_name_that_was_removed_is_found() -> None:
    assert missing({"BuilderFlag.FP16", "IBuilderConfig.int8_calibrator"}, "tensorrt 11.4") == {
        "BuilderFlag.FP16",
        "IBuilderConfig.int8_calibrator",
    }
    assert not missing({"BuilderFlag.FP16"}, "tensorrt 10.3.0")
