"""A model in memory, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunekit_export.precision.types import holds_int8
from prunekit_runtime.running.ort import require_onnxruntime

if TYPE_CHECKING:
    import onnx


def open_session(model: onnx.ModelProto, *, optimise: bool | None = None) -> Any:
    """Return an `InferenceSession`; its own errors pass through, as callers know what they asked for.

    Args:
        model: with its weights inside.
        optimise: let ONNX Runtime fuse and reorder; without, the graph runs as written. None is without for a quantised
            model, whose numbers the optimiser changes.
    """
    runtime = require_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # fatal only: what matters comes back as an exception
    fused = not holds_int8(model) if optimise is None else optimise
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fused else level.ORT_DISABLE_ALL
    return runtime.InferenceSession(model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"])
