# ruff: noqa: ARG002  the stand-ins keep the signatures of what they stand for
"""Small ONNX files, and a TensorRT and a CUDA made of numpy and host memory: they test our calls, not NVIDIA's code."""

import ctypes
import json
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from prunekit_runtime.running import cuda as cuda_runtime

CLASSES = 4
WriteOnnx = Callable[..., Path]


@pytest.fixture(scope="session")
def weights_K3() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((CLASSES, 3)).astype(np.float32)


@pytest.fixture
def write_onnx(tmp_path: Path, weights_K3: npt.NDArray[np.float32]) -> WriteOnnx:
    """Write a 1x1 convolution, images (N, 3, h, w) -> logits (N, 4, h, w)."""
    onnx = pytest.importorskip("onnx")

    def write(name: str = "model.onnx", *, height: int = 0, width: int = 0, half: bool = False, more: int = 0) -> Path:
        kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        size = [height or "height", width or "width"]
        value = onnx.helper.make_tensor_value_info
        weights = weights_K3.astype(np.float16 if half else np.float32).reshape(CLASSES, 3, 1, 1)
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["images", "weights"], ["logits"])]
            + [onnx.helper.make_node("Identity", ["logits"], [f"more{number}"]) for number in range(more)],
            "segmenter",
            [value("images", kind, ["batch", 3, *size])],
            [value("logits", kind, ["batch", CLASSES, *size])]
            + [value(f"more{number}", kind, ["batch", CLASSES, *size]) for number in range(more)],
            [onnx.numpy_helper.from_array(weights, "weights")],
        )
        path = tmp_path / name
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
        return path

    return write


@pytest.fixture
def plan_path(tmp_path: Path) -> Path:
    path = tmp_path / "model.plan"
    path.write_bytes(b"ftrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(100))
    return path


class HostCuda:
    """Keeps 'device' memory on the host, and counts what is held so that leaks show."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.numbers = iter(range(1, 1 << 20))
        self.records: list[int] = []
        self.capturing: list[Callable[[], object]] | None = None
        self.launches = 0

    def malloc(self, size_bytes: int) -> int:
        memory = ctypes.create_string_buffer(size_bytes)
        self.held[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def free(self, handle: int) -> None:
        del self.held[handle]

    malloc_host, free_host = malloc, free
    free_stream = free_event = free

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        assert stream in self.held
        ctypes.memmove(target, source, size_bytes)

    copy_out = copy_in

    def stream(self) -> int:
        number = next(self.numbers)
        self.held[number] = "stream or event"
        return number

    event = stream

    def synchronise(self, stream: int) -> None:
        assert stream in self.held

    def begin_capture(self, stream: int) -> None:
        assert stream in self.held
        assert self.capturing is None
        self.capturing = []

    def end_capture(self, stream: int) -> int:
        kept, self.capturing = self.capturing, None
        number = next(self.numbers)
        self.held[number] = kept
        return number

    def abandon_capture(self, stream: int) -> None:
        self.capturing = None

    def executable(self, graph: int) -> int:
        number = next(self.numbers)
        self.held[number] = self.held[graph]
        return number

    free_graph = free_executable = free

    def launch(self, executable: int, stream: int) -> None:
        self.launches += 1
        for work in self.held[executable]:
            work()

    def record(self, event: int, stream: int) -> None:
        self.records.append(event)

    def elapsed_ms(self, start: int, end: int) -> float:
        last = self.records[-4:]  # before copying in, after it, after computing, after copying out
        assert last[last.index(start) + 1] == end
        return (0.125, 0.25, 0.5)[last.index(start)]


class HostContext:
    """Computes the 1x1 convolution on the addresses that it was given, when it is executed."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.shape: tuple[int, ...] = (-1, 3, -1, -1)
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        if not all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True)):
            return False
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "images" else (self.shape[0], CLASSES, *self.shape[2:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        images, logits = self._array("images"), self._array("logits")

        def compute() -> None:
            logits[...] = np.einsum("kc,nchw->nkhw", self.engine.weights_K3, images)

        if self.engine.cuda.capturing is None:
            compute()
        else:
            self.engine.cuda.capturing.append(compute)
        return self.engine.works

    def _array(self, name: str) -> npt.NDArray[np.float32]:
        shape = self.get_tensor_shape(name)
        memory = (ctypes.c_char * int(np.prod(shape) * 4)).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype=np.float32).reshape(shape)


class HostEngine:
    """Two tensors, one profile of 1 to 2 images of 8 x 8 to 64 x 64 px."""

    num_io_tensors = 2

    def __init__(self, weights_K3: npt.NDArray[np.float32]) -> None:
        self.weights_K3, self.works, self.dtype = weights_K3, True, "FLOAT"

    def get_tensor_name(self, number: int) -> str:
        return ("images", "logits")[number]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "images" else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> str:
        return self.dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3 if name == "images" else CLASSES, -1, -1)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, 3, 8, 8), (1, 3, 16, 16), (2, 3, 64, 64)]

    def create_execution_context(self) -> HostContext:
        return HostContext(self)


@pytest.fixture
def host_cuda(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    cuda = HostCuda()
    monkeypatch.setattr(cuda_runtime, "open_cuda", lambda: cuda)
    return cuda


@pytest.fixture
def host_engine(
    monkeypatch: pytest.MonkeyPatch, host_cuda: HostCuda, weights_K3: npt.NDArray[np.float32]
) -> HostEngine:
    """Put a stand-in for the module tensorrt in place; set `engine.accepted = False` to refuse the plan."""
    engine: Any = HostEngine(weights_K3)
    engine.accepted, engine.cuda = True, host_cuda

    class Severity:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    class Logger:
        pass

    Logger.Severity = Severity  # pyright: ignore[reportAttributeAccessIssue]  as the real class nests it

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> Any:
            self.logger.log(Severity.WARNING, "a warning that is no reason")
            if not engine.accepted:
                self.logger.log(Severity.ERROR, "the engine was made\n by another version")
            return engine if engine.accepted else None

    module = types.SimpleNamespace(
        __version__="10.3.0",
        ILogger=Logger,
        Runtime=Runtime,
        TensorIOMode=types.SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT"),
        DataType=types.SimpleNamespace(FLOAT="FLOAT", UINT8="UINT8"),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", module)  # pyright: ignore[reportArgumentType]  a stand-in
    return engine


@pytest.fixture
def rtx_plan(write_onnx: WriteOnnx, tmp_path: Path) -> Path:
    """Build a plan ahead of time with TensorRT-RTX, which needs no GPU; skip where the package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own imports warn, and that is not ours to judge
        trt: Any = pytest.importorskip("tensorrt_rtx")
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, builder.logger)
        assert parser.parse(write_onnx(height=16, width=24).read_bytes())
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape("images", (1, 3, 16, 24), (1, 3, 16, 24), (2, 3, 16, 24))
        assert config.add_optimization_profile(profile) >= 0
        plan = builder.build_serialized_network(network, config)
    path = tmp_path / "real.plan"
    path.write_bytes(bytes(plan))
    return path


@pytest.fixture
def runnable(tmp_path: Path, weights_K3: npt.NDArray[np.float32]) -> Path:
    """Write a bundle with two models of the same 1x1 convolution, for pictures of any size: "labels" and "logits"."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from prunekit_runtime.bundle import InputEntry, ModelEntry
    from prunekit_runtime.preprocessing import Preprocessing

    root = tmp_path / "bundle"
    (root / "models").mkdir(parents=True)
    contract = Preprocessing(0, 0)
    names, palette = ["road", "sky", "tree", "car"], [[9, 9, 9], [0, 0, 255], [0, 255, 0], [255, 0, 0]]
    (root / "classes.json").write_text(json.dumps({"names": names, "palette": palette}))
    (root / "preprocessing.json").write_text(json.dumps(contract.to_json()))
    value, kinds, make = onnx.helper.make_tensor_value_info, onnx.TensorProto, onnx.helper.make_node

    def tensor(name: str, array: npt.NDArray[Any]) -> Any:
        return onnx.numpy_helper.from_array(array, name)

    def save(name: str, nodes: list[Any], ends: list[Any], tensors: list[Any]) -> None:
        graph = onnx.helper.make_graph(nodes, name, ends[:1], ends[1:], tensors)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, root / "models" / f"{name}.onnx")

    weights = tensor("weights", weights_K3.reshape(CLASSES, 3, 1, 1))
    save(
        "logits",
        [make("Conv", ["images", "weights"], ["logits"])],
        [value("images", kinds.FLOAT, [1, 3, "h", "w"]), value("logits", kinds.FLOAT, [1, CLASSES, "h", "w"])],
        [weights],
    )
    save(
        "labels",
        [
            make("Transpose", ["pictures"], ["pictures_3HW"], perm=[0, 3, 1, 2]),
            make("Cast", ["pictures_3HW"], ["numbers"], to=kinds.FLOAT),
            make("Mul", ["numbers", "scale"], ["scaled"]),
            make("Sub", ["scaled", "mean"], ["centred"]),
            make("Div", ["centred", "std"], ["images"]),
            make("Conv", ["images", "weights"], ["logits"]),
            make("ArgMax", ["logits"], ["classes"], axis=1, keepdims=0),
            make("Cast", ["classes"], ["labels"], to=kinds.UINT8),
        ],
        [value("pictures", kinds.UINT8, [1, "H", "W", 3]), value("labels", kinds.UINT8, [1, "H", "W"])],
        [
            weights,
            tensor("scale", np.float32(contract.scale)),
            tensor("mean", np.float32(contract.mean).reshape(1, 3, 1, 1)),
            tensor("std", np.float32(contract.std).reshape(1, 3, 1, 1)),
        ],
    )
    sizes = {"labels": (1, None, None, 3), "logits": (1, 3, None, None)}
    models = []
    for name, (batch, *rest) in sizes.items():
        kind, data = ("pictures", "uint8") if name == "labels" else ("images", "float32")
        profile = {key: tuple(size or 64 for size in (batch, *rest)) for key in ("min", "opt", "max")}
        entry = InputEntry(kind, data, (batch, *rest))
        models.append(ModelEntry(name, "fp32", name, f"models/{name}.onnx", entry, profile))  # pyright: ignore[reportArgumentType]  one of the two graphs
    _seal(root, tuple(models), ())
    return root


def _seal(root: Path, models: tuple[Any, ...], golden: tuple[Any, ...]) -> None:
    """Write a manifest of what lies in a folder."""
    from prunekit_runtime.bundle import FileEntry, Manifest
    from prunekit_runtime.plainfile import sha256_of

    made = (root / "built", root / "reports", root / "bundle.json")
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and not {path, *path.parents} & set(made)]
    files = {path.relative_to(root).as_posix(): FileEntry(path.stat().st_size, sha256_of(path)[0]) for path in paths}
    manifest = Manifest("demo", "prunekit 0", (), models, golden, files)
    (root / "bundle.json").write_text(json.dumps(manifest.to_json()))


@pytest.fixture
def seal() -> Callable[[Path], None]:
    """Return what writes a bundle's hashes anew, after a file of it was changed."""
    from prunekit_runtime.bundle import Manifest

    def write(root: Path) -> None:
        manifest = Manifest.from_json(json.loads((root / "bundle.json").read_text()))
        _seal(root, manifest.models, manifest.golden)

    return write


@pytest.fixture
def checkable(runnable: Path, weights_K3: npt.NDArray[np.float32]) -> Path:
    """Write `runnable` with one golden picture, whose labels are those of its models."""
    from prunekit_runtime.bundle import GoldenEntry, open_bundle
    from prunekit_runtime.pictures.png_writer import encode_mask, encode_picture

    bundle = open_bundle(runnable)
    picture_HW3 = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    logits_KHW = np.einsum("kc,nchw->nkhw", weights_K3, bundle.contract.prepare(picture_HW3))[0]
    (runnable / "golden").mkdir()
    (runnable / "golden/00.png").write_bytes(encode_picture(picture_HW3))
    labels_HW = logits_KHW.argmax(0).astype(np.uint8)
    (runnable / "golden/00.labels.png").write_bytes(encode_mask(labels_HW, bundle.classes.palette))
    _seal(runnable, bundle.models, (GoldenEntry("00", "golden/00.png", "golden/00.labels.png"),))
    return runnable
