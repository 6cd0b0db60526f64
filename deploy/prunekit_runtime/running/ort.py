"""Run an ONNX file with ONNX Runtime on exactly the provider that was asked for."""

import importlib
import importlib.metadata
import mmap
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import numpy.typing as npt

from prunekit_runtime.errors import RunnerError, RunnerUsageError
from prunekit_runtime.near import did_you_mean, near_path
from prunekit_runtime.running.ends import Ends, Tensor
from prunekit_runtime.running.runner import ClosingRunner, Graph, check_memory

MAX_THREADS = 1024
Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# Both distributions own the folder onnxruntime/: the one installed last wins, and removing one breaks the other.
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_INSTALL = "pip install 'prunekit[ort]' for the CPU, or 'prunekit[ort-gpu]' for an NVIDIA GPU; never both"


class OrtSession:
    """A session on one provider, without fallback to another, and what to call it.

    Raises:
        RunnerError: ONNX Runtime is missing or installed twice, the provider is not available, the file is missing or
            cannot be loaded, or a part of it would run on the CPU although a GPU was asked for.
    """

    def __init__(self, path: Path, provider: str, threads: int = 0, optimise: Optional[bool] = None) -> None:
        onnxruntime = require_onnxruntime()
        wanted = _known_provider(onnxruntime, provider)
        if not Path(path).is_file():
            raise RunnerUsageError(
                f"ONNX file {path} does not exist.{near_path(Path(path))} Write one: prunekit export"
            )
        if not 0 <= threads <= MAX_THREADS:
            raise RunnerUsageError(
                f"The number of threads cannot be {threads}. Give 0 for ONNX Runtime's choice, or up to {MAX_THREADS}."
            )
        quantised = is_quantised(Path(path))
        fused = not quantised if optimise is None else optimise
        session = _open_session(onnxruntime, Path(path), wanted, _options(onnxruntime, provider, threads, fused))
        ran = session.get_providers()
        if not ran or ran[0] != wanted:
            raise RunnerUsageError(
                f"{wanted} was asked for, but ONNX Runtime would run {path} on {ran}. {_gpu_remedy()}"
            )
        self.session: Any = session
        self.name = f"onnxruntime {ran[0]} {onnxruntime.__version__}{', as written' if quantised and not fused else ''}"


class OrtRunner(ClosingRunner):
    """An ONNX Runtime session on one provider, without fallback to another.

    `threads` 0 leaves the number to ONNX Runtime. `optimise` lets it fuse operators; None is all files but quantised
    ones, whose numbers it changes: it puts integer kernels of its own in the place of what is written, which lost a
    point of mIoU where the file and an engine lose none. `graph` is what the caller can run, None for either.

    Raises:
        RunnerError: ONNX Runtime is missing or installed twice, the provider is not available, the file is missing or
            no segmentation model, its images or logits take over 8 GiB, or a part of it would run on the CPU although a
            GPU was asked for.
    """

    def __init__(
        self,
        path: Path,
        provider: Provider = "cpu",
        threads: int = 0,
        optimise: Optional[bool] = None,
        graph: Optional[Graph] = "logits",
    ) -> None:
        opened = OrtSession(path, provider, threads, optimise)
        session = opened.session
        self._session: Any = session
        self.path = Path(path)
        self.name = opened.name
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
        self.ends = Ends.of(str(path), inputs, outputs, graph)
        for tensor in (*inputs, *outputs):
            check_memory(tensor.shape, f"{path}: {tensor.name}")
        self.graph: Graph = self.ends.graph
        self.inputs: tuple[str, ...] = (self.ends.input.name,)
        self.outputs: tuple[str, ...] = tuple(tensor.name for tensor in self.ends.outputs)
        self.input_shape = self.ends.input.shape

    def __enter__(self) -> "OrtRunner":
        return self

    def run(self, inputs: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
        """Run normalised images (N, 3, h, w) to logits (N, K, h, w), or pictures (N, H, W, 3) to labels (N, H, W).

        Raises:
            RunnerError: the input does not fit, the runner is closed, or ONNX Runtime failed.
        """
        return self.run_all(inputs)[0]

    def run_all(self, inputs: "npt.NDArray[Any]") -> "list[npt.NDArray[Any]]":
        """Run as `run`, and return every output.

        Raises:
            RunnerError: as `run`.
        """
        if self._session is None:
            raise RunnerError(f"The runner of {self.path} is closed. Open it again.")
        self.ends.check(inputs)
        feed = {self.inputs[0]: np.ascontiguousarray(inputs)}
        try:
            return list(self._session.run(list(self.outputs), feed))
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise RunnerError(f"{self.name} failed on {self.path}: {_first_line(error)}") from error

    def close(self) -> None:
        """Release the session."""
        self._session = None


def is_quantised(path: Path) -> bool:
    """Say whether a file has a node that turns integers into numbers; read from its text, as no onnx is here."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"DequantizeLinear") >= 0


def require_onnxruntime() -> Any:
    """Return the module onnxruntime.

    Raises:
        RunnerError: it is missing, damaged, or installed twice.
    """
    installed = [name for name in DISTRIBUTIONS if _version(name)]
    if len(installed) > 1:
        raise RunnerError(
            f"{' and '.join(installed)} are both installed and overwrite each other. "
            f"Run: pip uninstall {' '.join(installed)}; then {_INSTALL}."
        )
    try:
        module = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise RunnerError(f"ONNX Runtime needs {error.name}, which is missing. {_INSTALL}.") from error
        raise RunnerUsageError(f"ONNX Runtime is not installed. {_INSTALL}.") from error
    except ImportError as error:
        raise RunnerError(f"ONNX Runtime is installed but does not load: {_first_line(error)}") from error
    if not hasattr(module, "InferenceSession") or not hasattr(module, "__version__"):
        raise RunnerError(
            f"The installed ONNX Runtime is damaged. Uninstall {' and '.join(DISTRIBUTIONS)}; {_INSTALL}."
        )
    return module


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _known_provider(onnxruntime: Any, provider: str) -> str:
    if provider not in PROVIDERS:
        near = did_you_mean(provider, PROVIDERS)
        raise RunnerUsageError(f"Provider {provider!r} is unknown. Choose one of {', '.join(PROVIDERS)}.{near}")
    available = onnxruntime.get_available_providers()
    if PROVIDERS[provider] not in available:
        raise RunnerUsageError(
            f"This ONNX Runtime ({onnxruntime.__version__}) has no {PROVIDERS[provider]}, only {', '.join(available)}. "
            + _gpu_remedy()
        )
    return PROVIDERS[provider]


def _options(onnxruntime: Any, provider: str, threads: int, optimise: bool) -> Any:
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.log_severity_level = 4  # fatal only: what matters comes back as an exception, in our words
    options.intra_op_num_threads = threads
    if provider != "cpu":
        # Without this key a missing CUDA library ends in a CPU session that answers to the name of a GPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _open_session(onnxruntime: Any, path: Path, wanted: str, options: Any) -> Any:
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=[wanted])
    except Exception as error:  # ONNX Runtime's errors share no base class below Exception
        remedy = f" {_gpu_remedy()} Shape arithmetic counts: try --static."
        if wanted == PROVIDERS["cpu"]:
            # bf16 above all, which it has for GPUs only.
            unknown = "NOT_IMPLEMENTED" in str(error)
            remedy = " It has no such operator on a CPU; bf16 runs on a GPU or as an engine." if unknown else ""
        raise RunnerError(f"{wanted} cannot load {path}: {_first_line(error)}{remedy}") from error
    session.disable_fallback()  # else a failing run is silently repeated on the CPU
    return session


def _tensors(items: Any) -> list[Tensor]:
    """Return what a session declares; a type that no segmentation model has keeps ONNX Runtime's name."""
    known: dict[str, str] = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
    return [
        Tensor(
            item.name,
            known.get(item.type, str(item.type)),
            tuple(size if isinstance(size, int) else None for size in item.shape),
        )
        for item in items
    ]


def _gpu_remedy() -> str:
    return "A GPU provider needs onnxruntime-gpu, an NVIDIA GPU, and its CUDA and cuDNN; for the CPU ask for cpu."


def _first_line(error: BaseException) -> str:
    # ONNX Runtime quotes names of the file, which may hold commands for a terminal.
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
