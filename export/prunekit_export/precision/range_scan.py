"""Which nodes would overflow in fp16: the largest magnitude of every activation on calibration images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_export.precision.half import unsafe_weight_nodes
from prunekit_export.precision.session import open_session
from prunekit_export.precision.types import FP16, Half

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import onnx

# Of the largest number: unseen images reach further than the calibration images do.
HEADROOM = 0.25
_PEAK = "__peak"
_SUM = "__sum"


@dataclass(frozen=True)
class RangeReport:
    """The largest magnitude by tensor, and the nodes that stay in float32 because of it."""

    images: int
    limit: float
    peaks: dict[str, float]
    keep_fp32: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object; of the peaks only those above the limit."""
        above = {name: peak for name, peak in sorted(self.peaks.items()) if peak > self.limit}
        return {"images": self.images, "limit": self.limit, "above": above, "keep_fp32": sorted(self.keep_fp32)}


def scan_ranges(
    model: onnx.ModelProto, batches_N3hw: Sequence[npt.NDArray[np.float32]], half: Half = FP16
) -> RangeReport:
    """Run `model` (float32) on `batches_N3hw` and find nodes whose inputs, outputs or weights the type does not hold.

    Raises:
        ExportError: there are no images, or an activation is nan or infinite already in float32.
    """
    if not batches_N3hw:
        raise ExportError(
            f"{half.name} needs calibration images to find what overflows, got none. Give some, or export fp32."
        )
    peaks = _peaks(model, batches_N3hw)
    broken = sorted(name for name, peak in peaks.items() if not np.isfinite(peak))
    if broken:
        raise ExportError(f"Tensor {broken[0]} is not finite in float32 already, on calibration images.")
    limit = half.largest * HEADROOM
    above = {name for name, peak in peaks.items() if peak > limit}
    active = {node.name for node in model.graph.node if above & {*node.input, *node.output}}
    keep = frozenset(active) | unsafe_weight_nodes(model, limit, half)
    return RangeReport(sum(len(batch) for batch in batches_N3hw), limit, peaks, keep)


def _peaks(model: onnx.ModelProto, batches_N3hw: Sequence[npt.NDArray[np.float32]]) -> dict[str, float]:
    measured, names = _with_peaks(model)
    # As written: the optimiser would fuse away the activations that are asked for.
    session = open_session(measured, optimise=False)
    feed = model.graph.input[0].name
    results = [name + suffix for suffix in (_PEAK, _SUM) for name in names]
    batches = counted(batches_N3hw, "Scanning activations", len(batches_N3hw))
    measures = np.array([session.run(results, {feed: batch}) for batch in batches])
    peaks, sums = measures[:, : len(names)], measures[:, len(names) :]
    # ONNX Runtime's maximum passes over nan, depending on where it stands; a sum does not.
    known = np.where(np.isfinite(sums), peaks, sums)
    return dict(zip(names, known.max(axis=0).tolist(), strict=True))


def _with_peaks(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return `model` with max |x| and the sum of |x| of each float32 activation as its outputs, scalars all.

    They are taken inside the graph, so that activations are freed as soon as they are used.
    """
    import onnx

    measured = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = [value.name for value in (*measured.graph.value_info, *measured.graph.output) if _is_activation(value)]
    produced = {name for node in measured.graph.node for name in node.output}
    names = sorted(set(values) & produced)
    measured.graph.ClearField("output")
    for name in names:
        magnitude = f"{name}__magnitude"
        measured.graph.node.append(onnx.helper.make_node("Abs", [name], [magnitude], name=magnitude))
        for operator, result in (("ReduceMax", name + _PEAK), ("ReduceSum", name + _SUM)):
            measured.graph.node.append(onnx.helper.make_node(operator, [magnitude], [result], name=result, keepdims=0))
            measured.graph.output.append(onnx.helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, []))
    return measured, names


def _is_activation(value: onnx.ValueInfoProto) -> bool:
    import onnx

    tensor = value.type.tensor_type
    # An empty tensor (roi of Resize) has no maximum.
    empty = any(dim.HasField("dim_value") and not dim.dim_value for dim in tensor.shape.dim)
    return tensor.elem_type == onnx.TensorProto.FLOAT and not empty
