"""Timing single layers and whole networks as TensorRT engines, on the GPU that is here.

Each point is an engine of its own, which takes seconds to build, so few widths are measured; the GPU's own time counts,
without the copies. A one-layer engine converts its float32 ends, and a network's engine fuses over layers: the sum of
the layers is an upper bound that the scale of the table takes out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prunekit.pruning.latency import Machine
from prunekit.run import write_atomically
from prunekit_export.engine import EngineOptions, Profile, build_engine
from prunekit_export.errors import EngineUsageError, ExportUsageError
from prunekit_export.latency.layer_onnx import layer_model
from prunekit_export.latency.layer_timing import LayerTime, NetworkTime, Shape, exported_bytes
from prunekit_export.precision import HalfPass
from prunekit_export.require import require
from prunekit_runtime.measuring.latency import summarise
from prunekit_runtime.running.trt import TrtRunner
from prunekit_runtime.spelling import spelled
from prunekit_runtime.timing.kernels import noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from torch import nn

    from prunekit_export.latency.layer_onnx import LayerShape
    from prunekit_runtime.measuring.latency import LatencyReport
    from prunekit_runtime.timing.service import Stopwatch

# Channels that tensor cores take at once, by precision (NVIDIA, deep learning performance guide: 16 bytes).
_BLOCKS = {"fp16": 8, "fp32": 4}
_WARMUP_RUNS, _RUNS = 20, 100


class EngineTimer:
    """Times with TensorRT, on this machine's GPU or on that of a device.

    Args:
        precision: of the engines, written into the ONNX files they are built from.
        stopwatch: what builds and runs them; None is TensorRT here.
        device: what the GPU of that stopwatch is called; None asks this machine.

    Raises:
        ExportError: the precision is unknown, or TensorRT is not installed.
        EngineError: there is no GPU.
    """

    shares: Sequence[float] = (1 / 4, 1 / 2, 1)

    def __init__(
        self,
        precision: Literal["fp32", "fp16"] = "fp16",
        *,
        stopwatch: Stopwatch | None = None,
        device: str | None = None,
    ) -> None:
        if precision not in _BLOCKS:
            raise ExportUsageError(f"Engines are timed in {' or '.join(sorted(_BLOCKS))}, got {precision!r}.")
        self._stopwatch = LocalEngines() if stopwatch is None else stopwatch
        self._precision = precision
        self.machine = Machine(device or _gpu_name(), self._stopwatch.runtime, 0, precision)
        self.block = _BLOCKS[precision]
        self.granule = 1  # the block says it all: a part of one is padded

    def layer(self, layer: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
        """Time one layer at these widths.

        Raises:
            EngineError: it cannot be built.
        """
        model = layer_model(layer, channels_in, channels_out)
        return LayerTime(self._timed(model, layer.input_shape(channels_in)).p50_ms, 0.0)

    def network(self, segmenter: nn.Module, input_shape: Shape) -> NetworkTime:
        """Time a whole network; its kernels are not told.

        Raises:
            ExportError: it cannot be exported or built.
        """
        return NetworkTime(self.network_ms(segmenter, input_shape), ())

    def network_ms(self, segmenter: nn.Module, input_shape: Shape) -> LatencyReport:
        """Time a whole network.

        Raises:
            ExportError: it cannot be exported or built.
        """
        import onnx

        return self._timed(onnx.load_model_from_string(exported_bytes(segmenter, input_shape)), input_shape)

    def _timed(self, model: onnx.ModelProto, shape: Shape) -> LatencyReport:
        written = HalfPass()(model).model if self._precision == "fp16" else model
        return self._stopwatch.whole(written.SerializeToString(), shape)


class LocalEngines:
    """TensorRT on this machine.

    Raises:
        ExportError: it is not installed.
    """

    def __init__(self) -> None:
        self.runtime: str = f"tensorrt {require('tensorrt').__version__}"

    def whole(self, model: bytes, input_shape: Shape) -> LatencyReport:
        """Build an engine and time it: the GPU's own time, without the copies.

        Raises:
            EngineError: it cannot be built.
        """
        batch, channels, height, width = input_shape
        dims = (batch, channels, height, width)
        with tempfile.TemporaryDirectory() as folder:
            source, plan = Path(folder) / "model.onnx", Path(folder) / "model.plan"
            write_atomically(source, model)
            build_engine(source, plan, profile=Profile(dims, dims, dims), options=EngineOptions(package="tensorrt"))
            images, samples_ms = noise(input_shape), list[float]()
            with TrtRunner(plan) as runner:
                for _ in range(_WARMUP_RUNS + _RUNS):
                    runner.run(images)
                    samples_ms.append(runner.last_compute_ms)
        return summarise(samples_ms[_WARMUP_RUNS:], batch=batch, warmup_runs=_WARMUP_RUNS)


def _gpu_name() -> str:
    import torch

    if not torch.cuda.is_available():
        raise EngineUsageError(
            "TensorRT times its engines on a GPU, and torch finds none here. Measure in ONNX Runtime, or on a device: "
            f"{spelled('--on user@device', 'prunekit_export.deploying.device_meter')}"
        )
    return torch.cuda.get_device_name()
