"""A meter for pruning to a latency: layers and whole networks timed as they will be deployed, on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from prunekit_export.errors import ExportUsageError
from prunekit_export.latency.cache import LatencyCache
from prunekit_export.latency.layer_timing import OrtTimer, Shape, compare_files, exported, gpu_device
from prunekit_export.latency.table import measure_latency_table
from prunekit_runtime.near import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from prunekit.models.segmenter import Segmenter
    from prunekit.pruning.coupling import Coupling
    from prunekit.pruning.latency import LatencyTable, Machine
    from prunekit_export.latency.device_timing import DeviceStopwatch
    from prunekit_export.latency.layer_timing import LayerTimer
    from prunekit_runtime.measuring.latency import LatencyReport

Runtime = Literal["ort", "tensorrt"]


class LatencyMeter:
    """What `prune_run(meter=...)` takes: tables of networks, and the latency of cut ones.

    Args:
        timer: what measures; `open_meter` makes one.
        cache: times measured earlier; None takes the user's.
        on_progress: told (points measured, points in all) while a table is made.
    """

    def __init__(
        self,
        timer: LayerTimer,
        *,
        cache: LatencyCache | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._timer = timer
        self._cache = LatencyCache(timer.machine) if cache is None else cache
        self._on_progress = on_progress

    @property
    def machine(self) -> Machine:
        """What its numbers hold for."""
        return self._timer.machine

    def table(self, segmenter: Segmenter, input_shape: Shape, coupling: Coupling | None = None) -> LatencyTable:
        """Return the latency of each layer at every width; see `measure_latency_table`.

        Raises:
            ExportError: the network cannot be exported or run.
        """
        return measure_latency_table(
            segmenter,
            image_shape(input_shape),
            self._timer,
            coupling=coupling,
            cache=self._cache,
            on_progress=self._on_progress,
            deployed=deployed(segmenter),
        )

    def network_ms(self, segmenter: Segmenter, input_shape: Shape) -> float:
        """Return the median latency of a whole network; on a CPU, that of the quietest of a few stretches.

        Raises:
            ExportError: the network cannot be exported or run.
        """
        return self._timer.network_ms(deployed(segmenter), image_shape(input_shape)).p50_ms


def open_meter(
    runtime: Runtime = "ort",
    *,
    threads: int = 1,
    precision: Literal["fp32", "fp16"] = "fp32",
    on_progress: Callable[[int, int], None] | None = None,
) -> LatencyMeter:
    """Return a meter for this machine: ONNX Runtime on its CPU, or TensorRT on its GPU.

    Args:
        runtime: what will run the network.
        threads: CPU threads of ONNX Runtime; 0 leaves the number to it.
        precision: of TensorRT engines.
        on_progress: told (points measured, points in all) while a table is made.

    Raises:
        ExportError: the runtime is unknown or missing, there is no GPU for TensorRT, or fp16 was asked of the CPU.
    """
    refuse_unmeasured(runtime, precision)
    if runtime == "tensorrt":
        from prunekit_export.latency.engine_timing import EngineTimer

        return LatencyMeter(EngineTimer(precision), on_progress=on_progress)
    return LatencyMeter(OrtTimer(threads), on_progress=on_progress)


def device_timer(
    stopwatch: DeviceStopwatch, runtime: Runtime, *, threads: int = 1, precision: Literal["fp32", "fp16"] = "fp32"
) -> LayerTimer:
    """Return what times layers and networks on a device.

    Args:
        stopwatch: connected to it.
        runtime: what the stopwatch measures in.
        threads: CPU threads of ONNX Runtime; 0 leaves the number to it.
        precision: of TensorRT engines.

    Raises:
        ExportError: fp16 was asked of a CPU, or the device cannot measure.
    """
    refuse_unmeasured(runtime, precision)
    if runtime == "tensorrt":
        from prunekit_export.latency.engine_timing import EngineTimer

        return EngineTimer(precision, stopwatch=stopwatch, device=gpu_device(stopwatch.device))
    return OrtTimer(threads, stopwatch=stopwatch, device=stopwatch.device)


def compare_latencies(
    segmenters: Mapping[str, nn.Module], input_shape: Shape, *, threads: int = 1, runs: int | None = None
) -> dict[str, LatencyReport]:
    """Export networks and measure them in alternation in ONNX Runtime on the CPU.

    Args:
        segmenters: by the names of the result.
        input_shape: of the images (B, 3, H, W).
        threads: CPU threads; 0 leaves the number to ONNX Runtime.
        runs: of each network; None takes what fills about 10 s a network.

    Raises:
        ExportError: a network cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, Path] = {}
        for index, (name, segmenter) in enumerate(segmenters.items()):
            place = Path(folder) / str(index)
            place.mkdir()
            paths[name] = exported(segmenter, image_shape(input_shape), place)
        return compare_files(paths, image_shape(input_shape), threads, runs)


def deployed(segmenter: Segmenter) -> Segmenter:
    """Return the network as `prunekit export` writes it: a CCS head becomes plain layers; else the same object."""
    from prunekit.folding.fold import fold
    from prunekit.models.ccs import CCSHead

    return fold(segmenter)[0] if any(isinstance(module, CCSHead) for module in segmenter.modules()) else segmenter


def refuse_unmeasured(runtime: str, precision: str) -> None:
    """Refuse what no meter measures.

    Raises:
        ExportUsageError: the runtime is unknown, or fp16 was asked of a CPU.
    """
    known = get_args(Runtime)
    if runtime not in known:
        raise ExportUsageError(
            f"Latency is measured in {', '.join(known)}, got {runtime!r}.{did_you_mean(runtime, known)}"
        )
    if runtime == "ort" and precision != "fp32":
        raise ExportUsageError(
            f"ONNX Runtime is timed on the CPU in fp32, got {precision}. Use runtime tensorrt for fp16."
        )


def image_shape(input_shape: Shape) -> tuple[int, int, int, int]:
    """Return a shape of images, checked.

    Raises:
        ExportError: it is not (B, 3, H, W), each at least 1.
    """
    if len(input_shape) != 4 or input_shape[1] != 3 or min(input_shape) < 1:
        raise ExportUsageError(f"Images have the shape (batch, 3, height, width), got {tuple(input_shape)}.")
    return cast("tuple[int, int, int, int]", tuple(input_shape))
