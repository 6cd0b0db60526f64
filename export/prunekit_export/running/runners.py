"""Open whatever can run a segmentation model: a run directory, an ONNX file, an engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

from google.protobuf.message import DecodeError

from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.staging import refuse_unproved
from prunekit_runtime.preprocessing import read_contract
from prunekit_runtime.running.opening import open_runner as open_file
from prunekit_runtime.running.runner import ClosingRunner, Graph, Runner, Shape, check_images

if TYPE_CHECKING:
    import torch

    from prunekit_runtime.preprocessing import Preprocessing
    from prunekit_runtime.running.ort import Provider
    from prunekit_runtime.running.runner import FloatArray

CONTRACT = "preprocessing.json"


class TorchRunner(ClosingRunner):
    """A run's network in eager torch, float32, as it was trained: what an exported file is compared with.

    Raises:
        RunError: the run cannot be loaded.
        ConfigError: the device is not there.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 0, *, trust_code: bool = False) -> None:
        import torch

        from prunekit.modelfile import load_model
        from prunekit.run import open_run
        from prunekit.training.device import resolve_device

        loaded = load_model(open_run(path), trust_code=trust_code)
        self._device = resolve_device(device)
        self._segmenter: torch.nn.Module | None = loaded.segmenter.eval().to(self._device)
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads or self._threads_before)
        self.contract: Preprocessing = loaded.contract
        self.name = f"torch {torch.__version__} {self._device.type}, eager"
        self.inputs: tuple[str, ...] = ("images",)
        self.outputs: tuple[str, ...] = ("logits",)
        self.input_shape: Shape = (None, 3, None, None)
        self.graph: Graph = "logits"

    def __enter__(self) -> Self:
        return self

    def run(self, images_N3hw: FloatArray) -> FloatArray:
        """Run normalised images (N, 3, h, w); return logits (N, K, h, w), on the host."""
        import torch

        check_images(images_N3hw, self.input_shape)
        if self._segmenter is None:
            raise ExportError("The runner is closed. Open it again.")
        with torch.inference_mode():
            logits_NKhw = self._segmenter(torch.from_numpy(images_N3hw).to(self._device))
        return logits_NKhw.cpu().numpy()  # the copy to the host waits for the device

    def close(self) -> None:
        """Release the network, and give torch its threads back."""
        import torch

        self._segmenter = None
        torch.set_num_threads(self._threads_before)


Rounding = Literal["none", "bf16", "all"]
"""Which ONNX files give the numbers of their 16 bits on a CPU."""


def open_runner(
    path: Path,
    *,
    provider: str | None = None,
    threads: int = 0,
    trust_code: bool = False,
    graph: Graph | None = "logits",
    rounding: Rounding = "bf16",
) -> Runner:
    """Open a model by what it is: a folder is a run, .onnx goes to ONNX Runtime, .plan and .engine to TensorRT.

    Args:
        path: the model.
        provider: "cpu", "cuda" or, for an ONNX file, "tensorrt"; None is the CPU, and the GPU for an engine.
        threads: CPU threads; 0 leaves the choice to the library.
        trust_code: run the python: factory of a run that others made.
        graph: what the caller can run, None for either.
        rounding: let ONNX files of 16 bits give the numbers of their type on the CPU, by a rounding of each result,
            which takes time of its own. ONNX Runtime computes bf16 not at all there, and most of fp16 in float32.

    Raises:
        PrunekitError: it is no model, belongs to an export that is not finished, or cannot run there.
    """
    if path.is_dir():
        return _open_run(path, provider, threads, trust_code=trust_code)
    refuse_unproved(path)
    on_cpu = path.suffix == ".onnx" and provider in (None, "cpu") and path.is_file()
    runner = _rounding_runner(path, threads, graph, rounding) if on_cpu and rounding != "none" else None
    if runner is not None:
        return runner
    return open_file(path, provider=cast("Provider | None", provider), threads=threads or None, graph=graph)


def _rounding_runner(path: Path, threads: int, graph: Graph | None, rounding: Rounding) -> Runner | None:
    """Return a runner that rounds as a file of 16 bits says; None for another file, or one with weights elsewhere.

    None too where the roundings cannot be written in, as with subgraphs.
    """
    import onnx

    from prunekit_export.precision import BF16, RoundingError, half_of, rounded
    from prunekit_runtime.running.ort import OrtRunner

    try:
        # Weights in other files stay where they are: a file of others may name any path.
        model = onnx.load_model(path, load_external_data=False)
        half = half_of(model)
        wanted = half is not None and (half == BF16 or rounding == "all")
        whole = not any(tensor.external_data for tensor in model.graph.initializer)
        written = rounded(model) if whole and wanted else None
    except (RoundingError, DecodeError, OSError):  # what is no model is refused where it is opened
        return None
    if written is None or half is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / path.name
        copied.write_bytes(written.SerializeToString())
        runner = OrtRunner(copied, threads=threads, optimise=False, graph=graph)
    runner.path, runner.name = path, f"{runner.name.removesuffix(', as written')}, results rounded to {half.name}"
    return runner


def _open_run(path: Path, provider: str | None, threads: int, *, trust_code: bool) -> Runner:
    if provider not in (None, "cpu", "cuda"):
        raise ExportUsageError(
            f"{path} is a run, which torch runs on cpu or cuda, not on {provider}. "
            f"Export it first: prunekit export {path}"
        )
    return TorchRunner(path, provider or "cpu", threads, trust_code=trust_code)


def contract_for(runner: Runner, path: Path) -> Preprocessing:
    """Return the preprocessing contract of a model.

    Raises:
        ExportError: an exported file has lost the one beside it.
    """
    contract = contract_of_runner(runner, path)
    if contract is None:
        raise ExportUsageError(
            f"{path} has no {CONTRACT} beside it, which says how images are prepared. Copy the one of its export; "
            f"for a file of another tool write one: prunekit export {path}"
        )
    return contract


def contract_of_runner(runner: Runner, path: Path) -> Preprocessing | None:
    """Return the preprocessing contract of a model: its own, or the one exported beside it; None if there is none."""
    if isinstance(runner, TorchRunner):
        return runner.contract
    beside = path.parent / CONTRACT
    return read_contract(beside) if beside.exists() else None
