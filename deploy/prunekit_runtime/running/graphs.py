"""A CUDA graph of what an engine does for one shape: kernels are launched at once, and not one by one.

CUDA Runtime API reference, "Graph Management"; TensorRT developer guide, "CUDA Graphs": an engine is run once for a
shape before it is captured, and captured again when a shape or an address changes.
"""

from collections.abc import Callable

from prunekit_runtime.errors import RunnerError
from prunekit_runtime.running.cuda import Cuda


class CudaGraph:
    """What `enqueue` gives a stream, kept to be launched again.

    Raises:
        RunnerError: it cannot be captured, such as an engine that waits for the GPU in its midst.
    """

    def __init__(self, cuda: Cuda, stream: int, enqueue: Callable[[], object]) -> None:
        self._cuda, self._stream = cuda, stream
        try:
            self._executable = _captured(cuda, stream, enqueue)
        except RunnerError as error:
            raise RunnerError(f"This engine cannot be run as a CUDA graph. {error} Leave out --cuda-graph.") from error

    def launch(self) -> None:
        """Queue it."""
        self._cuda.launch(self._executable, self._stream)

    def free(self) -> None:
        """Release it."""
        self._cuda.free_executable(self._executable)


def _captured(cuda: Cuda, stream: int, enqueue: Callable[[], object]) -> int:
    cuda.begin_capture(stream)
    try:
        enqueue()
    except RunnerError:
        cuda.abandon_capture(stream)
        raise
    graph = cuda.end_capture(stream)
    try:
        return cuda.executable(graph)
    finally:
        cuda.free_graph(graph)
