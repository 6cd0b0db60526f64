"""Open a model file with the runner that fits it: an engine by its header, an ONNX file by its name."""

from pathlib import Path
from typing import Optional

from prunekit_runtime.errors import RunnerUsageError
from prunekit_runtime.near import near_path
from prunekit_runtime.running.ort import OrtRunner, Provider
from prunekit_runtime.running.plan import MAGICS
from prunekit_runtime.running.runner import Graph
from prunekit_runtime.running.trt import TrtRunner

PLAN_SUFFIXES = (".plan", ".engine", ".trt")


def is_plan(path: Path) -> bool:
    """Tell whether a file is an engine, by its first bytes or, where it is missing or damaged, by its name.

    Raises:
        RunnerError: the file does not exist.
    """
    if not path.is_file():
        raise RunnerUsageError(f"Model file {path} does not exist.{near_path(path)} Write one: prunekit export")
    with path.open("rb") as file:
        return file.read(4) in MAGICS or path.suffix in PLAN_SUFFIXES


def open_runner(
    path: Path,
    *,
    provider: Provider | None = None,
    threads: int | None = None,
    graph: Optional[Graph] = "logits",
    cuda_graph: bool = False,
) -> OrtRunner | TrtRunner:
    """Open an engine with TensorRT, or an ONNX file with ONNX Runtime (on the CPU unless `provider` says otherwise).

    Args:
        path: the model file.
        provider: of ONNX Runtime.
        threads: of ONNX Runtime.
        graph: what the caller can run, None for either.
        cuda_graph: launch an engine's kernels as one CUDA graph.

    Raises:
        RunnerError: the file cannot be run here, or an option of one runner was given for the other.
    """
    if is_plan(path):
        if provider is not None or threads is not None:
            raise RunnerUsageError(
                f"{path} is an engine: TensorRT runs it on the GPU. Leave out the provider and the threads."
            )
        return TrtRunner(path, graph, cuda_graph=cuda_graph)
    if path.suffix != ".onnx":
        raise RunnerUsageError(
            f"{path} is neither an ONNX file (.onnx) nor a TensorRT engine. Write one: prunekit export"
        )
    if cuda_graph:
        raise RunnerUsageError(
            f"{path} is an ONNX file, and a CUDA graph is made of an engine's kernels. Leave out --cuda-graph."
        )
    return OrtRunner(path, provider or "cpu", threads or 0, graph=graph)
