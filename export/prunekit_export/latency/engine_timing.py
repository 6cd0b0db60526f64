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
from prunekit_export.engine import Profile, build_engine
from prunekit_export.errors import EngineUsageError, ExportUsageError
from prunekit_export.latency.layer_onnx import layer_model, noise
from prunekit_export.latency.layer_timing import LayerTime, NetworkTime, Shape, exported
from prunekit_export.precision import Fp16Pass
from prunekit_export.require import require
from prunekit_runtime.measuring.latency import summarise
from prunekit_runtime.running.trt import TrtRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from torch import nn

    from prunekit_export.latency.layer_onnx import LayerShape
    from prunekit_runtime.measuring.latency import LatencyReport

# Channels that tensor cores take at once, by precision (NVIDIA, deep learning performance guide: 16 bytes).
_BLOCKS = {"fp16": 8, "fp32": 4}
_WARMUP_RUNS, _RUNS = 20, 100


class EngineTimer:
    """Times with TensorRT.

    Args:
        precision: of the engines, written into the ONNX files they are built from.

    Raises:
        ExportError: the precision is unknown, or TensorRT is not installed.
        EngineError: there is no GPU.
    """

    shares: Sequence[float] = (1 / 4, 1 / 2, 1)

    def __init__(self, precision: Literal["fp32", "fp16"] = "fp16") -> None:
        if precision not in _BLOCKS:
            raise ExportUsageError(f"Engines are timed in {' or '.join(sorted(_BLOCKS))}, got {precision!r}.")
        trt = require("tensorrt")
        self._precision = precision
        self.machine = Machine(_gpu_name(), f"tensorrt {trt.__version__}", 0, precision)
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

        with tempfile.TemporaryDirectory() as folder:
            model = onnx.load_model(exported(segmenter, input_shape, Path(folder)))
        return self._timed(model, input_shape)

    def _timed(self, model: onnx.ModelProto, shape: Shape) -> LatencyReport:
        batch, channels, height, width = shape
        dims = (batch, channels, height, width)
        written = Fp16Pass()(model).model if self._precision == "fp16" else model
        with tempfile.TemporaryDirectory() as folder:
            source, plan = Path(folder) / "model.onnx", Path(folder) / "model.plan"
            write_atomically(source, written.SerializeToString())
            build_engine(source, plan, profile=Profile(dims, dims, dims), package="tensorrt")
            images, samples_ms = noise(shape), list[float]()
            with TrtRunner(plan) as runner:
                for _ in range(_WARMUP_RUNS + _RUNS):
                    runner.run(images)
                    samples_ms.append(runner.last_compute_ms)
        return summarise(samples_ms[_WARMUP_RUNS:], batch=batch, warmup_runs=_WARMUP_RUNS)


def _gpu_name() -> str:
    import torch

    if not torch.cuda.is_available():
        raise EngineUsageError(
            "TensorRT times its engines on a GPU, and torch finds none here. Measure in ONNX Runtime."
        )
    return torch.cuda.get_device_name()
