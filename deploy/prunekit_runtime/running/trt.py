"""Run a TensorRT or TensorRT-RTX engine: one stream, pinned host buffers, events round the kernels.

Only names that exist in TensorRT 10.3 to 11.4 and in TensorRT-RTX 1.7 are used. CUDA comes by ctypes.
"""

import ctypes
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from prunekit_runtime.errors import RunnerError, RunnerUsageError
from prunekit_runtime.running import cuda as cuda_runtime
from prunekit_runtime.running.cuda import Cuda
from prunekit_runtime.running.plan import HEADER_BYTES as HEADER_BYTES
from prunekit_runtime.running.plan import PlanHeader as PlanHeader
from prunekit_runtime.running.plan import read_plan_header
from prunekit_runtime.running.plan import sniff_plan as sniff_plan
from prunekit_runtime.running.runner import (
    ClosingRunner,
    FloatArray,
    Shape,
    check_images,
    check_memory,
    show_shape,
    single,
)

_INSTALL: dict[str, str] = {
    "tensorrt": "On a Jetson it comes with JetPack (python3-libnvinfer); elsewhere: pip install 'prunekit[trt]'",
    "tensorrt_rtx": "pip install 'prunekit[rtx]'",
}


class TrtRunner(ClosingRunner):
    """An engine on the GPU, float32 at both ends; `last_compute_ms` is the GPU's own time of the last run.

    A run copies in, computes, copies out and waits, so its wall time includes both copies.

    Raises:
        RunnerError: the file is no engine, its package or the GPU is missing, or it was built for another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.header = read_plan_header(self.path)
        trt = _require(self.header.package)
        self._cuda = cuda_runtime.open_cuda()
        self._buffers: dict[str, _Buffer] = {}
        self._messages: list[str] = []
        self._logger = _logger(trt, self._messages)
        self._runtime: Any = trt.Runtime(self._logger)
        self._engine: Any = self._deserialised(trt)
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise RunnerError(
                f"Engine {path} gives no execution context: {self._complaint()}. Is the GPU's memory full?"
            )
        self._describe(trt)
        self._stream, self._start, self._end = self._cuda.stream(), self._cuda.event(), self._cuda.event()
        self.last_compute_ms = float("nan")

    def __enter__(self) -> "TrtRunner":
        return self

    def run(self, images_N3hw: FloatArray) -> FloatArray:
        """Run normalised images (N, 3, h, w); return logits (N, K, h, w).

        Raises:
            RunnerError: the images do not fit, the runner is closed, or TensorRT failed.
        """
        if self._context is None:
            raise RunnerError(f"The runner of {self.path} is closed. Open it again.")
        check_images(images_N3hw, self.input_shape)
        image, logits = self._bound(images_N3hw.shape)
        image.host_array(images_N3hw.shape)[...] = images_N3hw
        self._cuda.copy_in(image.device, image.host, images_N3hw.nbytes, self._stream)
        self._cuda.record(self._start, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise RunnerError(f"{self.name} failed on {self.path}: {self._complaint()}.")
        self._cuda.record(self._end, self._stream)
        shape = tuple(self._context.get_tensor_shape(self.outputs[0]))
        self._cuda.copy_out(logits.host, logits.device, _size_bytes(shape), self._stream)
        self._cuda.synchronise(self._stream)
        self.last_compute_ms = self._cuda.elapsed_ms(self._start, self._end)
        return logits.host_array(shape).copy()

    def close(self) -> None:
        """Release the engine, its context and all memory."""
        if self._context is None:
            return
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()
        self._context = self._engine = self._runtime = None
        self._cuda.free_event(self._start)
        self._cuda.free_event(self._end)
        self._cuda.free_stream(self._stream)

    def _deserialised(self, trt: Any) -> Any:
        engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if engine is None:
            raise RunnerError(
                f"Engine {self.path} was built by {self.header.package} {self.header.version}; {trt.__version__} here "
                f"refuses it: {self._complaint()}. Build it again on this machine: an engine is bound to one version "
                "and one kind of GPU."
            )
        return engine

    def _describe(self, trt: Any) -> None:
        engine, modes = self._engine, trt.TensorIOMode
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        by_mode = {
            mode: [name for name in names if engine.get_tensor_mode(name) == mode]
            for mode in (modes.INPUT, modes.OUTPUT)
        }
        self.inputs: tuple[str, ...] = (single(by_mode[modes.INPUT], "input", str(self.path)),)
        self.outputs: tuple[str, ...] = (single(by_mode[modes.OUTPUT], "output", str(self.path)),)
        for name in names:
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                kind = engine.get_tensor_dtype(name)
                raise RunnerError(
                    f"{self.path}: {name} is {kind}, but float32 is needed. Export it with prunekit export."
                )
        self.input_shape: Shape = tuple(None if size < 0 else size for size in engine.get_tensor_shape(self.inputs[0]))
        check_memory(self.input_shape, f"{self.path}: {self.inputs[0]}")
        self.name = f"{self.header.package} {trt.__version__}"

    def _bound(self, shape: tuple[int, ...]) -> tuple["_Buffer", "_Buffer"]:
        name = self.inputs[0]
        if not self._context.set_input_shape(name, shape):
            low, _, high = (tuple(size) for size in self._engine.get_tensor_profile_shape(name, 0))
            raise RunnerError(
                f"Engine {self.path} takes {show_shape(low)} to {show_shape(high)}, got {show_shape(shape)}. "
                "Build it again with a profile that covers this shape."
            )
        outcome = tuple(self._context.get_tensor_shape(self.outputs[0]))
        if any(size < 0 for size in outcome):
            raise RunnerError(
                f"Engine {self.path} does not tell the shape of its output before running; export it again."
            )
        check_memory(outcome, f"{self.path}: {self.outputs[0]}")
        image, logits = self._buffer(name, _size_bytes(shape)), self._buffer(self.outputs[0], _size_bytes(outcome))
        for tensor, buffer in ((name, image), (self.outputs[0], logits)):
            if not self._context.set_tensor_address(tensor, buffer.device):
                raise RunnerError(f"{self.name} cannot allocate memory for {tensor}: {self._complaint()}.")
        return image, logits

    def _buffer(self, name: str, size_bytes: int) -> "_Buffer":
        held = self._buffers.get(name)
        if held is not None and held.size_bytes >= size_bytes:
            return held
        if held is not None:
            del self._buffers[name]
            held.free()
        return self._buffers.setdefault(name, _Buffer(self._cuda, size_bytes))

    def _complaint(self) -> str:
        return "; ".join(self._messages[-3:]).rstrip(". ") or "TensorRT gave no reason"


class _Buffer:
    """Device memory and page-locked host memory of the same size."""

    def __init__(self, cuda: Cuda, size_bytes: int) -> None:
        self._cuda, self.size_bytes = cuda, size_bytes
        self.device = cuda.malloc(size_bytes)
        try:
            self.host = cuda.malloc_host(size_bytes)
        except RunnerError:
            cuda.free(self.device)
            raise

    def host_array(self, shape: tuple[int, ...]) -> FloatArray:
        """View the host memory as float32; valid until the buffer is freed."""
        memory = (ctypes.c_char * _size_bytes(shape)).from_address(self.host)
        return np.frombuffer(memoryview(memory), dtype=np.float32).reshape(shape)

    def free(self) -> None:
        """Release both."""
        self._cuda.free(self.device)
        self._cuda.free_host(self.host)


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise RunnerError(f"{package} needs {error.name}, which is missing. {_INSTALL[package]}.") from error
        raise RunnerUsageError(f"This engine needs {package}, which is not installed. {_INSTALL[package]}.") from error
    except (ImportError, OSError) as error:  # a library below it is missing: the loader's words are the remedy
        raise RunnerError(f"{package} is installed but does not load: {error}.") from error


def _logger(trt: Any, messages: list[str]) -> Any:
    class CollectingLogger(trt.ILogger):
        """Keeps errors for our own messages; TensorRT reports the reason nowhere else."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants its own initialiser, not super()'s

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                messages.append(" ".join(message.split()))

    return CollectingLogger()


def _size_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * 4  # float32
