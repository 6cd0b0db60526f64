"""Run a TensorRT or TensorRT-RTX engine: one stream, pinned host buffers, events round the kernels.

Only names that exist in TensorRT 10.3 to 11.4 and in TensorRT-RTX 1.7 are used. CUDA comes by ctypes.
"""

import ctypes
import importlib
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from prunekit_runtime.errors import RunnerError, RunnerUsageError
from prunekit_runtime.running import cuda as cuda_runtime
from prunekit_runtime.running.cuda import Cuda
from prunekit_runtime.running.ends import Ends, Tensor, bytes_of, dtype_of
from prunekit_runtime.running.graphs import CudaGraph
from prunekit_runtime.running.plan import HEADER_BYTES as HEADER_BYTES
from prunekit_runtime.running.plan import PlanHeader as PlanHeader
from prunekit_runtime.running.plan import read_plan_header
from prunekit_runtime.running.plan import sniff_plan as sniff_plan
from prunekit_runtime.running.runner import ClosingRunner, Graph, check_memory, show_shape

PARTS = ("copy_in", "compute", "copy_out")
_INSTALL: dict[str, str] = {
    "tensorrt": "On a Jetson it comes with JetPack (python3-libnvinfer); elsewhere: pip install 'prunekit[trt]'",
    "tensorrt_rtx": "pip install 'prunekit[rtx]'",
}


class TrtRunner(ClosingRunner):
    """An engine on the GPU; `last_compute_ms` is the GPU's own time of the last run, `last_parts_ms` with both copies.

    A run copies in, computes, copies out and waits, so its wall time includes both copies. `graph` is what the caller
    can run, None for either. With `cuda_graph` the kernels are one CUDA graph from the second run of a shape on.

    Raises:
        RunnerError: the file is no engine, its package or the GPU is missing, or it was built for another version.
    """

    def __init__(self, path: Path, graph: Optional[Graph] = "logits", *, cuda_graph: bool = False) -> None:
        self.path = Path(path)
        self._wants_graph = cuda_graph
        self._captured: Optional[CudaGraph] = None
        self._ran: Optional[tuple[int, ...]] = None  # the shape of the last run
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
        self._describe(trt, graph)
        self._stream = self._cuda.stream()
        self._marks = [self._cuda.event() for _ in (*PARTS, "end")]
        self.last_parts_ms = dict.fromkeys(PARTS, float("nan"))

    def __enter__(self) -> "TrtRunner":
        return self

    @property
    def last_compute_ms(self) -> float:
        """Time of the last run between the copies [ms]."""
        return self.last_parts_ms["compute"]

    def run(self, inputs: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
        """Run normalised images (N, 3, h, w) to logits (N, K, h, w), or pictures (N, H, W, 3) to labels (N, H, W).

        Raises:
            RunnerError: the input does not fit, the runner is closed, or TensorRT failed.
        """
        return self.run_all(inputs)[0]

    def run_all(self, inputs: "npt.NDArray[Any]") -> "list[npt.NDArray[Any]]":
        """Run as `run`, and return every output.

        Raises:
            RunnerError: as `run`.
        """
        if self._context is None:
            raise RunnerError(f"The runner of {self.path} is closed. Open it again.")
        self.ends.check(inputs)
        taken, given = self._bound(inputs.shape)
        taken.host_array(inputs.shape)[...] = inputs
        begun, copied_in, computed, copied_out = self._marks
        self._cuda.record(begun, self._stream)
        self._cuda.copy_in(taken.device, taken.host, inputs.nbytes, self._stream)
        self._cuda.record(copied_in, self._stream)
        self._compute(inputs.shape)
        self._cuda.record(computed, self._stream)
        shapes = [tuple(self._context.get_tensor_shape(name)) for name in self.outputs]
        for buffer, shape in zip(given, shapes, strict=False):
            self._cuda.copy_out(buffer.host, buffer.device, bytes_of(shape, buffer.dtype), self._stream)
        self._cuda.record(copied_out, self._stream)
        self._cuda.synchronise(self._stream)
        pairs = zip(PARTS, self._marks, self._marks[1:], strict=False)
        self.last_parts_ms = {part: self._cuda.elapsed_ms(start, end) for part, start, end in pairs}
        return [buffer.host_array(shape).copy() for buffer, shape in zip(given, shapes, strict=False)]

    def close(self) -> None:
        """Release the engine, its context and all memory."""
        if self._context is None:
            return
        self._forget_graph()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()
        self._context = self._engine = self._runtime = None
        for mark in self._marks:
            self._cuda.free_event(mark)
        self._cuda.free_stream(self._stream)

    def _compute(self, shape: tuple[int, ...]) -> None:
        if not self._wants_graph or self._ran != shape:
            self._enqueue()
            self._forget_graph()
            self._ran = shape
            return
        if self._captured is None:
            self._captured = CudaGraph(self._cuda, self._stream, self._enqueue)
        self._captured.launch()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise RunnerError(f"{self.name} failed on {self.path}: {self._complaint()}.")

    def _forget_graph(self) -> None:
        if self._captured is not None:
            self._captured.free()
        self._captured = self._ran = None

    def _deserialised(self, trt: Any) -> Any:
        engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if engine is None:
            raise RunnerError(
                f"Engine {self.path} was built by {self.header.package} {self.header.version}; {trt.__version__} here "
                f"refuses it: {self._complaint()}. Build it again on this machine: an engine is bound to one version "
                "and one kind of GPU."
            )
        return engine

    def _describe(self, trt: Any, graph: Optional[Graph]) -> None:
        inputs, outputs = self._tensors(trt, trt.TensorIOMode.INPUT), self._tensors(trt, trt.TensorIOMode.OUTPUT)
        self.ends = Ends.of(str(self.path), inputs, outputs, graph)
        self.graph: Graph = self.ends.graph
        self.inputs: tuple[str, ...] = (self.ends.input.name,)
        self.outputs: tuple[str, ...] = tuple(tensor.name for tensor in self.ends.outputs)
        self.input_shape = self.ends.input.shape
        check_memory(self.input_shape, f"{self.path}: {self.inputs[0]}")
        self.name = f"{self.header.package} {trt.__version__}"

    def _tensors(self, trt: Any, mode: Any) -> list[Tensor]:
        engine, known = self._engine, {trt.DataType.FLOAT: "float32", trt.DataType.UINT8: "uint8"}
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        return [
            Tensor(
                name,
                known.get(engine.get_tensor_dtype(name), str(engine.get_tensor_dtype(name))),
                tuple(None if size < 0 else size for size in engine.get_tensor_shape(name)),
            )
            for name in names
            if engine.get_tensor_mode(name) == mode
        ]

    def _bound(self, shape: tuple[int, ...]) -> tuple["_Buffer", list["_Buffer"]]:
        name = self.inputs[0]
        if not self._context.set_input_shape(name, shape):
            low, _, high = (tuple(size) for size in self._engine.get_tensor_profile_shape(name, 0))
            raise RunnerError(
                f"Engine {self.path} takes {show_shape(low)} to {show_shape(high)}, got {show_shape(shape)}. "
                "Build it again with a profile that covers this shape."
            )
        taken = self._buffer(self.ends.input, shape)
        given = [self._buffer(tensor, self._outcome(tensor)) for tensor in self.ends.outputs]
        for tensor, buffer in zip((*self.inputs, *self.outputs), (taken, *given), strict=False):
            if not self._context.set_tensor_address(tensor, buffer.device):
                raise RunnerError(f"{self.name} cannot allocate memory for {tensor}: {self._complaint()}.")
        return taken, given

    def _outcome(self, tensor: Tensor) -> tuple[int, ...]:
        shape = tuple(self._context.get_tensor_shape(tensor.name))
        if any(size < 0 for size in shape):
            raise RunnerError(
                f"Engine {self.path} does not tell the shape of its output before running; export it again."
            )
        check_memory(shape, f"{self.path}: {tensor.name}")
        return shape

    def _buffer(self, tensor: Tensor, shape: tuple[int, ...]) -> "_Buffer":
        size_bytes = bytes_of(shape, tensor.dtype)
        held = self._buffers.get(tensor.name)
        if held is not None and held.size_bytes >= size_bytes:
            return held
        if held is not None:
            self._forget_graph()  # it holds the old address
            del self._buffers[tensor.name]
            held.free()
        return self._buffers.setdefault(tensor.name, _Buffer(self._cuda, size_bytes, tensor.dtype))

    def _complaint(self) -> str:
        return "; ".join(self._messages[-3:]).rstrip(". ") or "TensorRT gave no reason"


class _Buffer:
    """Device memory and page-locked host memory of the same size."""

    def __init__(self, cuda: Cuda, size_bytes: int, dtype: str) -> None:
        self._cuda, self.size_bytes, self.dtype = cuda, size_bytes, dtype
        self.device = cuda.malloc(size_bytes)
        try:
            self.host = cuda.malloc_host(size_bytes)
        except RunnerError:
            cuda.free(self.device)
            raise

    def host_array(self, shape: tuple[int, ...]) -> "npt.NDArray[Any]":
        """View the host memory; valid until the buffer is freed."""
        memory = (ctypes.c_char * bytes_of(shape, self.dtype)).from_address(self.host)
        return np.frombuffer(memoryview(memory), dtype=dtype_of(self.dtype)).reshape(shape)

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
