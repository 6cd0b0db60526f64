# ruff: noqa: ARG002  the stand-ins keep the signatures of what they stand for
"""A TensorRT made of Python, a GPU that is only named, and a bundle with two models: they test our calls, not NVIDIA's.

A "file" is JSON: the input's shape and the layers that a parser would find. What the stand-in does wrong is set in
`world`. No engine was built by TensorRT in these tests.
"""

import dataclasses
import json
import sys
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunekit_runtime.building import machine, package
from prunekit_runtime.running.gpu import Gpu

ORIN = Gpu(name="Orin", sm="8.7", shares_memory=True, count=1, driver="540.4.0", cuda_driver="12.6")
SEPARATOR = "\x1f"
PLAN_HEADER = b"ftrt" + bytes(20) + bytes((10, 3, 0, 26))


@dataclass
class World:
    """What the stand-in does, and what it was told."""

    version: str = "10.3.0"
    fails_to_build: bool = False
    fails_to_load: bool = False
    kernels: str = "f16f16_f16f16_f16"
    weights: str | None = "Half"
    metadata: bool = True
    parser_error: str = ""
    network_kind: str | None = None
    step_s: float = 0.0
    has_monitor: bool = True
    builds: int = 0
    configs: list[Any] = field(default_factory=list)
    phases: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    told: list[Any] = field(default_factory=list)
    """What the inspector says of each layer, where that is not made from the network."""


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def __init__(self) -> None:
        pass


class Severity:
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


Logger.Severity = Severity  # pyright: ignore[reportAttributeAccessIssue]  as the real class nests it


class Config:
    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.builder_optimization_level = 3
        self.profiling_verbosity = "LAYER_NAMES_ONLY"
        self.progress_monitor: Any = None
        self.workspace = 1 << 36
        self.profiles: list[Any] = []
        self.cache: Any = None
        self.taken: list[bool] = []

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def get_flag(self, flag: str) -> bool:
        return flag in self.flags

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert pool == "WORKSPACE"
        self.workspace = size

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.workspace

    def add_optimization_profile(self, shapes: Any) -> int:
        self.profiles.append(shapes)
        return -1 if shapes.maximum[-1] == 4096 else len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(content=content, serialize=lambda: b"timings of Orin")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        taken = cache.content in (b"", b"timings of Orin")
        self.taken.append(taken)
        if taken:
            self.cache = cache
        return taken

    def get_timing_cache(self) -> Any:
        return self.cache


class Shapes:
    minimum: Any = None
    optimum: Any = None
    maximum: Any = None
    name = ""

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.name, self.minimum, self.optimum, self.maximum = name, low, best, high


class Network:
    def __init__(self) -> None:
        self.content: dict[str, Any] = {}
        self.num_inputs = 1

    @property
    def num_layers(self) -> int:
        return len(self.content["layers"])

    def get_input(self, number: int) -> Any:
        return SimpleNamespace(name="images", shape=self.content["shape"])

    def get_layer(self, number: int) -> Any:
        name, kind, dtype = self.content["layers"][number]
        return SimpleNamespace(
            name=name,
            type=SimpleNamespace(name=kind),
            metadata=f"[ONNX Layer: {name}]",
            get_output=lambda _: SimpleNamespace(dtype=SimpleNamespace(name=dtype)),
        )


def make_module(world: World) -> Any:
    class Parser:
        def __init__(self, network: Network, logger: Any) -> None:
            self.network, self.logger = network, logger
            self.num_errors = 1

        def parse(self, content: bytes) -> bool:
            self.network.content = json.loads(content)
            if world.network_kind is not None:
                self.network.content["layers"] = [
                    [name, kind, world.network_kind] for name, kind, _ in self.network.content["layers"]
                ]
            return not world.parser_error

        def get_error(self, number: int) -> Any:
            return SimpleNamespace(
                node_name=lambda: "head/fold", node_operator=lambda: "Col2Im", desc=lambda: world.parser_error
            )

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> Network:
            assert flags == 1 << module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return Network()

        def create_builder_config(self) -> Config:
            world.configs.append(Config())
            return world.configs[-1]

        def create_optimization_profile(self) -> Shapes:
            return Shapes()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            world.builds += 1
            self.logger.log(Severity.WARNING, "some tactics were skipped")
            if not self._tell(config.progress_monitor):
                world.cancelled.set()
                self.logger.log(Severity.ERROR, "the build was cancelled")
                return None
            if world.fails_to_build:
                self.logger.log(Severity.ERROR, "Could not find any implementation for node\n {\x1b[31mconv}")
                self.logger.log(Severity.INTERNAL_ERROR, "Engine building failed")
                return None
            return PLAN_HEADER + json.dumps([world.builds, network.content]).encode()

        def _tell(self, monitor: Any) -> bool:
            if monitor is None:
                return True
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Timing graph nodes", "Building engine", 50)
            world.phases.set()
            for step in range(50):
                time.sleep(world.step_s)
                if not monitor.step_complete("Timing graph nodes", step):
                    return False
            monitor.phase_finish("Timing graph nodes")
            monitor.phase_finish("Building engine")
            return True

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if world.fails_to_load:
                self.logger.log(Severity.ERROR, "Target GPU SM 87 is not supported by this TensorRT release")
                return None
            return Engine(world, json.loads(plan[len(PLAN_HEADER) :])[1])

    values: dict[str, Any] = {
        "__name__": "tensorrt",
        "__version__": world.version,
        "ILogger": Logger,
        "Builder": Builder,
        "OnnxParser": Parser,
        "Runtime": Runtime,
        "NetworkDefinitionCreationFlag": SimpleNamespace(STRONGLY_TYPED=0 if world.version.startswith("11") else 1),
        "ProfilingVerbosity": SimpleNamespace(DETAILED="DETAILED"),
        "BuilderFlag": SimpleNamespace(TF32="TF32"),
        "MemoryPoolType": SimpleNamespace(WORKSPACE="WORKSPACE"),
        "LayerInformationFormat": SimpleNamespace(JSON="JSON"),
        "TensorIOMode": SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT"),
    }
    if world.has_monitor:
        values["IProgressMonitor"] = type("IProgressMonitor", (), {})
    module: Any = SimpleNamespace(**values)
    return module


class Engine:
    num_io_tensors = 2

    def __init__(self, world: World, content: dict[str, Any]) -> None:
        self.world, self.content = world, content
        self.layers = world.told or [self._layer(*layer) for layer in content["layers"]]
        self.num_layers = len(self.layers)
        self.optimum: Any = None

    def get_tensor_name(self, number: int) -> str:
        return ("logits", "images")[number]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "images" else "OUTPUT"

    def create_execution_context(self) -> Any:
        return SimpleNamespace(set_input_shape=self._set)

    def create_engine_inspector(self) -> Any:
        inspector = SimpleNamespace(execution_context=None)
        inspector.get_layer_information = lambda number, _: self._information(inspector, number)
        return inspector

    def _set(self, name: str, shape: Any) -> bool:
        assert name == "images"
        self.optimum = shape
        return True

    def _information(self, inspector: Any, number: int) -> str:
        layer = self.layers[number]
        if isinstance(layer, str):
            return layer
        if self.optimum is None or inspector.execution_context is None:  # as TensorRT says it
            layer = {**layer, "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}], "Outputs": []}
        return json.dumps(layer)

    def _layer(self, name: str, kind: str, dtype: str) -> dict[str, Any]:
        described: dict[str, Any] = {
            "Name": name,
            "LayerType": "CaskConvolution" if kind == "CONVOLUTION" else "kgen",
            "Inputs": [{"Name": "x", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP32"}],
            "TacticName": f"sm80_xmma_fprop_implicit_gemm_{self.world.kernels}_nhwc" if kind == "CONVOLUTION" else "",
            "Metadata": f"[ONNX Layer: {name}]{SEPARATOR}[ONNX Layer: {name}/relu]" if self.world.metadata else "",
        }
        if kind == "CONVOLUTION" and self.world.weights is not None:
            described["Weights"] = {"Type": self.world.weights, "Count": 864}
        return described


@dataclass(frozen=True)
class Entry:
    name: str
    precision: str
    input_shape: tuple[int | None, ...]
    profile: dict[str, tuple[int, ...]] | None = None
    graph: str = "labels"

    def path(self, folder: Path) -> Path:
        return folder / "models" / f"{self.name}.onnx"


@dataclass(frozen=True)
class Bundle:
    folder: Path
    models: tuple[Entry, ...]

    @property
    def built_dir(self) -> Path:
        return self.folder / "built"

    @property
    def reports_dir(self) -> Path:
        return self.folder / "reports"


def fake_file(shape: tuple[int, ...], dtype: str, convolutions: int = 3) -> bytes:
    layers = [[f"node_conv_{number}", "CONVOLUTION", dtype] for number in range(convolutions)]
    return json.dumps({"shape": shape, "layers": [*layers, ["node_resize", "RESIZE", dtype]]}).encode()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Put a stand-in for TensorRT and an Orin in place."""
    made = World()
    install(monkeypatch, made)
    return made


def install(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    module = make_module(world)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    spec = types.SimpleNamespace(name="tensorrt")
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: spec if name == "tensorrt" else None)
    monkeypatch.setattr(machine, "describe_gpu", lambda _: ORIN)


@pytest.fixture
def reinstall(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], None]:
    """Put another TensorRT in place, as an upgrade does."""
    return lambda world: install(monkeypatch, world)


@pytest.fixture
def other_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change what the machine's GPU is."""

    def change(**changes: Any) -> None:
        monkeypatch.setattr(machine, "describe_gpu", lambda _: dataclasses.replace(ORIN, **changes))

    return change


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Write two models, fp32 of fixed size and fp16 with open height and width."""
    models = (
        Entry("labels.fp32", "fp32", (1, 64, 96, 3)),
        Entry(
            "labels.fp16",
            "fp16",
            (1, None, None, 3),
            {"min": (1, 32, 32, 3), "opt": (1, 64, 96, 3), "max": (1, 128, 192, 3)},
        ),
    )
    made = Bundle(tmp_path / "bundle", models)
    (made.folder / "models").mkdir(parents=True)
    (made.folder / "reports").mkdir()
    models[0].path(made.folder).write_bytes(fake_file((1, 64, 96, 3), "FLOAT"))
    models[1].path(made.folder).write_bytes(fake_file((1, -1, -1, 3), "HALF"))
    return made
