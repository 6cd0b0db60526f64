"""Timing single layers and whole networks: ONNX Runtime by its own profile, TensorRT by engines.

A profile gives each kernel's time, so that a layer measured alone and the same layer inside its network are the same
number: a one-layer file's conversions between memory layouts, which a network pays once, are told apart.
"""

from __future__ import annotations

import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prunekit.pruning.latency import Machine
from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.graph import export_onnx
from prunekit_export.latency.layer_onnx import LayerShape, layer_model, noise
from prunekit_runtime.measuring.latency import LatencyReport, compare, measure
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.ort import OrtRunner, require_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

Shape = tuple[int, ...]
CONVOLUTION_OPS = frozenset({"Conv", "FusedConv", "ConvTranspose"})
_LAYER_OPS = CONVOLUTION_OPS | {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
_KERNEL = "_kernel_time"
# A kernel is repeated until this much has been spent on it, within these counts.
_BUDGET_MS = 15.0
_LEAST_RUNS, _MOST_RUNS = 3, 25
_NETWORK_BUDGET_MS = 10_000.0
_LEAST_NETWORK_RUNS, _MOST_NETWORK_RUNS = 11, 101
_STRETCHES, _LEAST_STRETCH_RUNS = 5, 3


@dataclass(frozen=True)
class LayerTime:
    """One layer alone."""

    layer_ms: float
    """Its kernel, or kernels."""
    around_ms: float
    """What the file needed besides, conversions of memory layout at both ends."""


@dataclass(frozen=True)
class Node:
    """One kernel of a whole network, fastest of its runs."""

    op: str
    inputs: tuple[Shape, ...]
    output: Shape
    ms: float

    @property
    def is_layer(self) -> bool:
        """Whether it is a convolution or a product with a weight."""
        return self.op in _LAYER_OPS


@dataclass(frozen=True)
class NetworkTime:
    """A whole network."""

    report: LatencyReport
    """Wall time of a call."""
    nodes: tuple[Node, ...]
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
    """Times on the CPU with ONNX Runtime.

    Args:
        threads: CPU threads; 0 leaves the number to ONNX Runtime.

    Raises:
        RunnerError: ONNX Runtime is missing.
        ExportError: the number of threads is below 0.
    """

    # Linear in between is close: a kernel's time is nearly a product of both widths, plus what each brings.
    shares: Sequence[float] = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)

    def __init__(self, threads: int = 1) -> None:
        if threads < 0:
            raise ExportUsageError(
                f"The number of threads cannot be {threads}. Give 0 for ONNX Runtime's choice, or more."
            )
        self._onnxruntime = require_onnxruntime()
        self.threads = threads
        self.machine = Machine(
            device=_processor(threads),
            runtime=f"onnxruntime {self._onnxruntime.__version__} CPUExecutionProvider",
            threads=threads,
            precision="fp32",
        )
        self.block = self._block()
        self.granule = self._granule()

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        """Time one layer at these widths: the fastest run of its kernel, which other work on the machine spares most.

        Raises:
            ExportError: ONNX Runtime cannot run it, or the widths are no whole number of groups.
        """
        nodes = self._profiled(layer, channels_in, channels_out)
        layer_ms = sum(node.ms for node in nodes if node.is_layer)
        return LayerTime(layer_ms, sum(node.ms for node in nodes) - layer_ms)

    def network(self, segmenter: nn.Module, input_shape: Shape) -> NetworkTime:
        """Export a network and time it: wall time of plain runs, then the kernels in a profiled session.

        Raises:
            ExportError: it cannot be exported.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = exported(segmenter, input_shape, Path(folder))
            report = measure_file(path, input_shape, self.threads)
            nodes = self._profile(path, input_shape, lambda first_ms: _runs(first_ms, 1000.0, 5, 25))
        return NetworkTime(report, nodes)

    def network_ms(self, segmenter: nn.Module, input_shape: Shape) -> LatencyReport:
        """Export a network and time it.

        Raises:
            ExportError: it cannot be exported.
        """
        with tempfile.TemporaryDirectory() as folder:
            return measure_file(exported(segmenter, input_shape, Path(folder)), input_shape, self.threads)

    def _block(self) -> int:
        """Width to which ONNX Runtime fills up the output of a convolution: 8 or 16 in its blocked layout, else 1."""
        nodes = self._profiled(_probe(), 64, 1)
        return next(node.output[1] for node in nodes if node.is_layer)

    def _granule(self) -> int:
        """Multiple that the width of an input must be for the blocked layout."""
        if self.block == 1:
            return 1
        for step in (1, 2, 4, 8):
            nodes = self._profiled(_probe(), self.block + step, self.block)
            layer = next(node for node in nodes if node.is_layer)
            if layer.inputs[0][1] == 2 * self.block:  # filled up: the blocked layout took it
                return step
        return self.block

    def _profiled(self, layer: LayerShape, channels_in: int, channels_out: int) -> tuple[Node, ...]:
        content = layer_model(layer, channels_in, channels_out).SerializeToString()
        runs = lambda first_ms: _runs(first_ms, _BUDGET_MS, _LEAST_RUNS, _MOST_RUNS)  # noqa: E731  one expression
        return self._profile(content, layer.input_shape(channels_in), runs)

    def _profile(self, model: Path | bytes, input_shape: Shape, runs: Callable[[float], int]) -> tuple[Node, ...]:
        """Run a model under ONNX Runtime's profiler; `runs` tells how often, given the first run's milliseconds."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._session(model, str(Path(folder) / "profile"))
            feed = {session.get_inputs()[0].name: noise(input_shape)}
            first = measure(lambda: session.run(None, feed), batch=1, warmup_runs=0, runs=1)
            for _ in range(runs(first.p50_ms)):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text())
        return _nodes(events)

    def _session(self, model: Path | bytes, profile: str) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 4  # fatal only: what matters comes back as an exception
        options.enable_profiling = True
        options.profile_file_prefix = profile
        content = str(model) if isinstance(model, Path) else model
        try:
            return self._onnxruntime.InferenceSession(content, sess_options=options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise ExportError(f"{self.machine.runtime} cannot load a layer to be timed: {error}") from error


def exported(segmenter: nn.Module, input_shape: Shape, folder: Path) -> Path:
    """Write `segmenter` as ONNX of a fixed size into `folder`; return the file.

    Raises:
        ExportError: it cannot be exported.
    """
    batch, _, height, width = input_shape
    path = folder / "network.onnx"
    export_onnx(segmenter, path, height=height, width=width, dynamic=False, batch=batch)
    return path


def measure_file(path: Path, input_shape: Shape, threads: int) -> LatencyReport:
    """Measure one ONNX file in ONNX Runtime on the CPU: the quietest of `_STRETCHES`, which other work spares most."""
    runner, images = OrtRunner(path, "cpu", threads), noise(input_shape)

    def stretch(runs: int) -> LatencyReport:
        return measure(lambda: runner.run(images), batch=input_shape[0], warmup_runs=max(1, runs // 10), runs=runs)

    budget_ms = _NETWORK_BUDGET_MS / _STRETCHES
    runs = _runs(stretch(1).p50_ms, budget_ms, _LEAST_STRETCH_RUNS, _MOST_NETWORK_RUNS)
    return min((stretch(runs) for _ in range(_STRETCHES)), key=lambda report: report.p50_ms)


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
    count = runs or _runs(slowest_ms, _NETWORK_BUDGET_MS, _LEAST_NETWORK_RUNS, _MOST_NETWORK_RUNS)
    return compare(calls, batch=input_shape[0], warmup_runs=max(1, count // 10), runs=count)


def _runs(once_ms: float, budget_ms: float, least: int, most: int) -> int:
    return int(min(most, max(least, budget_ms / max(once_ms, 1e-3))))


def _probe() -> LayerShape:
    return LayerShape("conv", (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (0, 0), (0, 0), 1, 8, 8)


def _processor(threads: int) -> str:
    told = describe_device()
    name = told["board"] or told["cpu"] or platform.machine()
    return name if threads else f"{name}, {told['cpus']} CPUs"


def _nodes(events: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Return the kernels of a profile; the first run of each, which touches memory first, does not count."""
    times_us: dict[str, list[float]] = {}
    rows: dict[str, Mapping[str, Any]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            key = f"{name} {event['args']['node_index']}"
            times_us.setdefault(key, []).append(float(event["dur"]))
            rows[key] = event["args"]
    return tuple(
        Node(
            op=str(row["op_name"]),
            inputs=_shapes(row["input_type_shape"]),
            output=next(iter(_shapes(row["output_type_shape"])), ()),
            ms=min(times_us[key][1:] or times_us[key]) * 1e-3,
        )
        for key, row in rows.items()
    )


def _shapes(rows: Sequence[Mapping[str, Sequence[int]]]) -> tuple[Shape, ...]:
    return tuple(tuple(next(iter(row.values()))) for row in rows)
