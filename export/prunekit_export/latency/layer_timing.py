"""Timing single layers and whole networks: ONNX Runtime by its own profile, TensorRT by engines.

A profile gives each kernel's time, so that a layer measured alone and the same layer inside its network are the same
number: a one-layer file's conversions between memory layouts, which a network pays once, are told apart.
"""

from __future__ import annotations

import platform
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prunekit.pruning.latency import Machine
from prunekit_export.errors import ExportUsageError
from prunekit_export.graph import export_onnx
from prunekit_export.latency.layer_onnx import LayerShape, layer_model
from prunekit_runtime.measuring.latency import LatencyReport, compare
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.text import printable_name
from prunekit_runtime.timing.kernels import Effort, Kernel, noise
from prunekit_runtime.timing.service import KernelStopwatch, OrtStopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

Shape = tuple[int, ...]
_MAX_TEXT = 100
CONVOLUTION_OPS = frozenset({"Conv", "FusedConv", "ConvTranspose"})
_LAYER_OPS = CONVOLUTION_OPS | {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
# Runs of a model until this many milliseconds are spent, within these counts.
_OF_LAYER = Effort(budget_ms=15.0, least=3, most=25)
_OF_NETWORK = Effort(budget_ms=1000.0, least=5, most=25)
_COMPARED = Effort(budget_ms=10_000.0, least=11, most=101)


@dataclass(frozen=True)
class LayerTime:
    """One layer alone."""

    layer_ms: float
    """Its kernel, or kernels."""
    around_ms: float
    """What the file needed besides, conversions of memory layout at both ends."""


@dataclass(frozen=True)
class NetworkTime:
    """A whole network."""

    report: LatencyReport
    """Wall time of a call."""
    nodes: tuple[Kernel, ...]
    """Its kernels in the order they ran; empty where the runtime does not tell."""


class LayerTimer(Protocol):
    """What can time layers and networks on one machine."""

    @property
    def machine(self) -> Machine:
        """What the times hold for."""
        ...

    @property
    def block(self) -> int:
        """Channels that kernels take at once."""
        ...

    @property
    def granule(self) -> int:
        """Input widths that are no multiple of this take a slow path."""
        ...

    @property
    def shares(self) -> Sequence[float]:
        """Shares of a dense width that are worth a measurement."""
        ...

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        """Time one layer at these widths."""
        ...

    def network(self, segmenter: nn.Module, input_shape: Shape) -> NetworkTime:
        """Time a whole network on images of this shape, and its kernels."""
        ...

    def network_ms(self, segmenter: nn.Module, input_shape: Shape) -> LatencyReport:
        """Time a whole network on images of this shape."""
        ...


class OrtTimer:
    """Times on a CPU with ONNX Runtime, this machine's or that of a device.

    Args:
        threads: CPU threads; 0 leaves the number to ONNX Runtime.
        stopwatch: what runs the models; None is ONNX Runtime here.
        device: the description of the machine that the stopwatch is on; None is this one.

    Raises:
        RunnerError: ONNX Runtime is missing.
        ExportError: the number of threads is below 0.
    """

    # Linear in between is close: a kernel's time is nearly a product of both widths, plus what each brings.
    shares: Sequence[float] = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)

    def __init__(
        self, threads: int = 1, *, stopwatch: KernelStopwatch | None = None, device: Mapping[str, Any] | None = None
    ) -> None:
        if threads < 0:
            raise ExportUsageError(
                f"The number of threads cannot be {threads}. Give 0 for ONNX Runtime's choice, or more."
            )
        self._stopwatch = OrtStopwatch(threads) if stopwatch is None else stopwatch
        self.threads = threads
        told = describe_device() if device is None else device
        self.machine = Machine(processor(told, threads), self._stopwatch.runtime, threads, "fp32")
        self.block = self._block()
        self.granule = self._granule()

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        """Time one layer at these widths: the fastest run of its kernel, which other work on the machine spares most.

        Raises:
            MeasureError: ONNX Runtime cannot run it.
            ExportError: the widths are no whole number of groups.
        """
        nodes = self._profiled(layer, channels_in, channels_out)
        layer_ms = sum(node.ms for node in nodes if is_layer(node))
        return LayerTime(layer_ms, sum(node.ms for node in nodes) - layer_ms)

    def network(self, segmenter: nn.Module, input_shape: Shape) -> NetworkTime:
        """Export a network and time it: wall time of plain runs, then the kernels in a profiled session.

        Raises:
            ExportError: it cannot be exported.
        """
        content = exported_bytes(segmenter, input_shape)
        report = self._stopwatch.whole(content, input_shape)
        return NetworkTime(report, tuple(self._stopwatch.kernels(content, input_shape, _OF_NETWORK)))

    def network_ms(self, segmenter: nn.Module, input_shape: Shape) -> LatencyReport:
        """Export a network and time it.

        Raises:
            ExportError: it cannot be exported.
        """
        return self._stopwatch.whole(exported_bytes(segmenter, input_shape), input_shape)

    def _block(self) -> int:
        """Width to which ONNX Runtime fills up the output of a convolution: 8 or 16 in its blocked layout, else 1."""
        nodes = self._profiled(_probe(), 64, 1)
        return next(node.output[1] for node in nodes if is_layer(node))

    def _granule(self) -> int:
        """Multiple that the width of an input must be for the blocked layout."""
        if self.block == 1:
            return 1
        for step in (1, 2, 4, 8):
            nodes = self._profiled(_probe(), self.block + step, self.block)
            layer = next(node for node in nodes if is_layer(node))
            if layer.inputs[0][1] == 2 * self.block:  # filled up: the blocked layout took it
                return step
        return self.block

    def _profiled(self, layer: LayerShape, channels_in: int, channels_out: int) -> list[Kernel]:
        content = layer_model(layer, channels_in, channels_out).SerializeToString()
        return self._stopwatch.kernels(content, layer.input_shape(channels_in), _OF_LAYER)


def is_layer(kernel: Kernel) -> bool:
    """Tell whether a kernel is a convolution or a product with a weight."""
    return kernel.op in _LAYER_OPS


def exported_bytes(segmenter: nn.Module, input_shape: Shape) -> bytes:
    """Return `segmenter` as an ONNX file of a fixed size.

    Raises:
        ExportError: it cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        return exported(segmenter, input_shape, Path(folder)).read_bytes()


def exported(segmenter: nn.Module, input_shape: Shape, folder: Path) -> Path:
    """Write `segmenter` as ONNX of a fixed size into `folder`; return the file.

    Raises:
        ExportError: it cannot be exported.
    """
    batch, _, height, width = input_shape
    path = folder / "network.onnx"
    export_onnx(segmenter, path, height=height, width=width, dynamic=False, batch=batch)
    return path


def compare_files(
    paths: Mapping[str, Path], input_shape: Shape, threads: int, runs: int | None = None
) -> dict[str, LatencyReport]:
    """Measure ONNX files in alternation in ONNX Runtime on the CPU, so that a drift of the clock meets all alike.

    Args:
        paths: by the names of the result.
        input_shape: of the images (B, 3, H, W).
        threads: CPU threads; 0 leaves the number to ONNX Runtime.
        runs: of each file; None takes what fills about 10 s a file, 11 to 101.

    Raises:
        RunnerError: a file cannot be run.
    """
    images = noise(input_shape)
    runners = {name: OrtRunner(path, "cpu", threads) for name, path in paths.items()}

    def run_of(runner: OrtRunner) -> Callable[[], object]:
        return lambda: runner.run(images)

    calls = {name: run_of(runner) for name, runner in runners.items()}
    first = compare(calls, batch=input_shape[0], warmup_runs=1, runs=1)
    slowest_ms = max(report.p50_ms for report in first.values())
    count = runs or _COMPARED.runs(slowest_ms)
    return compare(calls, batch=input_shape[0], warmup_runs=max(1, count // 10), runs=count)


def _probe() -> LayerShape:
    return LayerShape("conv", (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (0, 0), (0, 0), 1, 8, 8)


def processor(device: Mapping[str, Any], threads: int) -> str:
    """Return what a CPU is called in a table: with its number of CPUs where the runtime chooses how many it uses."""
    name = _told(device, "board") or _told(device, "cpu") or platform.machine()
    named = name if threads else f"{name}, {_told(device, 'cpus')} CPUs"
    return named + _power_mode(device)


def gpu_device(device: Mapping[str, Any]) -> str:
    """Return what a device with a GPU is called in a table: by all that changes what its kernels take."""
    board = _told(device, "board")
    gpu = f"{_told(device, 'gpu') or 'a GPU without a name'}, driver {_told(device, 'gpu_driver') or 'unknown'}"
    return (f"{board}, {gpu}" if board else gpu) + _power_mode(device)


def _power_mode(device: Mapping[str, Any]) -> str:
    """Return ", MAXN" or the like on a Jetson, whose clocks follow it, and nothing elsewhere."""
    found = re.search(r"NV Power Mode: *(\S{1,40})", str(device.get("power_mode") or ""))
    return f", {printable_name(found.group(1))}" if found else ""


def _told(device: Mapping[str, Any], name: str) -> str:
    """Return what a device tells of itself, which may be anything, as a short text."""
    value = device.get(name)
    return "" if value is None else printable_name(str(value))[:_MAX_TEXT]
