"""The few calls of the CUDA runtime that an engine needs, by ctypes: no wheel, so it works on a bare JetPack.

Signatures: CUDA Runtime API reference, the same from CUDA 11 to 13.
"""

import contextlib
import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunekit_runtime.errors import RunnerError, RunnerUsageError

LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
_SUCCESS = 0
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
_THREAD_LOCAL = 1  # cudaStreamCaptureMode: what other threads do meanwhile is theirs
_Handle = ctypes.c_void_p
_Out = ctypes.POINTER(ctypes.c_void_p)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (ctypes.POINTER(ctypes.c_int),),
    "cudaRuntimeGetVersion": (ctypes.POINTER(ctypes.c_int),),
    "cudaMalloc": (_Out, ctypes.c_size_t),
    "cudaFree": (_Handle,),
    "cudaMallocHost": (_Out, ctypes.c_size_t),
    "cudaFreeHost": (_Handle,),
    "cudaMemcpyAsync": (_Handle, _Handle, ctypes.c_size_t, ctypes.c_int, _Handle),
    "cudaStreamCreate": (_Out,),
    "cudaStreamSynchronize": (_Handle,),
    "cudaStreamDestroy": (_Handle,),
    "cudaEventCreate": (_Out,),
    "cudaEventRecord": (_Handle, _Handle),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _Handle, _Handle),
    "cudaEventDestroy": (_Handle,),
    "cudaStreamBeginCapture": (_Handle, ctypes.c_int),
    "cudaStreamEndCapture": (_Handle, _Out),
    # Not cudaGraphInstantiate, whose arguments are others in CUDA 11 than in 12.
    "cudaGraphInstantiateWithFlags": (_Out, _Handle, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_Handle, _Handle),
    "cudaGraphDestroy": (_Handle,),
    "cudaGraphExecDestroy": (_Handle,),
}


class Cuda:
    """The CUDA runtime library; every call that fails raises with CUDA's own words. Handles are plain integers."""

    def __init__(self, library: Any) -> None:
        self._library = library
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
        library.cudaGetErrorString.argtypes = (ctypes.c_int,)
        library.cudaGetErrorString.restype = ctypes.c_char_p

    def device_count(self) -> int:
        """Return the number of usable GPUs; raises where the driver is missing or too old."""
        return self._integer("cudaGetDeviceCount")

    def runtime_version(self) -> str:
        """Return the version of the CUDA runtime, such as 12.6."""
        version = self._integer("cudaRuntimeGetVersion")  # 1000 major + 10 minor
        return f"{version // 1000}.{version % 1000 // 10}"

    def malloc(self, size_bytes: int) -> int:
        """Allocate device memory."""
        return self._handle("cudaMalloc", ctypes.c_size_t(size_bytes))

    def free(self, device: int) -> None:
        """Free device memory."""
        self._call("cudaFree", device)

    def malloc_host(self, size_bytes: int) -> int:
        """Allocate page-locked host memory, which asynchronous copies need."""
        return self._handle("cudaMallocHost", ctypes.c_size_t(size_bytes))

    def free_host(self, host: int) -> None:
        """Free page-locked host memory."""
        self._call("cudaFreeHost", host)

    def copy_in(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Queue a copy from the host to the device."""
        self._call("cudaMemcpyAsync", device, host, size_bytes, _HOST_TO_DEVICE, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Queue a copy from the device to the host."""
        self._call("cudaMemcpyAsync", host, device, size_bytes, _DEVICE_TO_HOST, stream)

    def stream(self) -> int:
        """Create a stream."""
        return self._handle("cudaStreamCreate")

    def synchronise(self, stream: int) -> None:
        """Wait until all that the stream was given is done."""
        self._call("cudaStreamSynchronize", stream)

    def free_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cudaStreamDestroy", stream)

    def event(self) -> int:
        """Create an event that keeps time."""
        return self._handle("cudaEventCreate")

    def record(self, event: int, stream: int) -> None:
        """Queue an event."""
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Return the time between two events that have both happened [ms]."""
        value = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(value), start, end)
        return value.value

    def free_event(self, event: int) -> None:
        """Destroy an event."""
        self._call("cudaEventDestroy", event)

    def begin_capture(self, stream: int) -> None:
        """Keep what the stream is given from now on, in the place of doing it."""
        self._call("cudaStreamBeginCapture", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return the graph of what the stream was given."""
        graph = ctypes.c_void_p()
        self._call("cudaStreamEndCapture", stream, ctypes.byref(graph))
        return graph.value or 0

    def abandon_capture(self, stream: int) -> None:
        """Make a stream usable again after what it was given failed."""
        with contextlib.suppress(RunnerError):
            graph = self.end_capture(stream)
            if graph:
                self.free_graph(graph)

    def executable(self, graph: int) -> int:
        """Make a graph ready to be launched."""
        return self._handle("cudaGraphInstantiateWithFlags", graph, ctypes.c_ulonglong(0))

    def launch(self, executable: int, stream: int) -> None:
        """Queue a graph."""
        self._call("cudaGraphLaunch", executable, stream)

    def free_graph(self, graph: int) -> None:
        """Destroy a graph; what was made ready from it stays."""
        self._call("cudaGraphDestroy", graph)

    def free_executable(self, executable: int) -> None:
        """Destroy a graph that was made ready."""
        self._call("cudaGraphExecDestroy", executable)

    def _integer(self, name: str) -> int:
        value = ctypes.c_int()
        self._call(name, ctypes.byref(value))
        return value.value

    def _handle(self, name: str, *arguments: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != _SUCCESS:
            words = self._library.cudaGetErrorString(status).decode(errors="replace")
            raise RunnerError(f"CUDA: {name} failed with {status}: {words}.")


def open_cuda() -> Cuda:
    """Load the CUDA runtime and make sure that a GPU is usable.

    Raises:
        RunnerError: no libcudart was found, or the driver or the GPU is missing.
    """
    cuda = Cuda(_load_library())
    try:
        count = cuda.device_count()
    except RunnerError as error:
        raise RunnerUsageError(
            f"No usable NVIDIA GPU. {error} Run nvidia-smi (on a Jetson: tegrastats) to see whether the driver works; "
            f"the CUDA runtime here is {cuda.runtime_version()}."
        ) from error
    if count < 1:
        raise RunnerUsageError(
            "No usable NVIDIA GPU: CUDA counts none. Run the engine on the machine that it was built for."
        )
    return cuda


def _load_library() -> ctypes.CDLL:
    reasons: list[str] = []
    for candidate in _candidates():
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            reasons.append(str(error))
    raise RunnerError(
        f"The CUDA runtime library is missing; the loader says: {'; '.join(reasons)}. "
        "On a Jetson install the JetPack packages; elsewhere: pip install nvidia-cuda-runtime."
    )


def _candidates() -> Iterator[str]:
    yield from LIBRARIES
    # Wheels of NVIDIA keep their libraries in nvidia/*/lib, where the loader does not look.
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("*/lib/libcudart.so.*"), reverse=True):
            yield str(path)
