"""QuantizeLinear and DequantizeLinear nodes by ONNX Runtime's quantizer, as TensorRT wants them.

TensorRT takes int8 that is symmetric with zero points of 0, weights by channel, and no quantised biases; it fuses a
product with the DequantizeLinear nodes that it reads directly. Nothing is quantised behind a product, so that what
follows (a residual addition, an activation) is fused with it. Scales become fp16 with the rest of the file (`Fp16Pass`,
rule 3).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.quantising.layers import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import onnx

    from prunekit_export.quantising.calibration import Ranges

_MIN_SCALE = 2.0**-24  # the smallest number above 0 of fp16, in which scales are kept
_LEVELS = 127


def quantised(model: onnx.ModelProto, ranges: Ranges, names: Sequence[str]) -> onnx.ModelProto:
    """Return a float32 model with Q/DQ nodes round the inputs and weights of the named products.

    Args:
        model: float32, opset 19 or later; not changed.
        ranges: of the activations that these products read.
        names: of the products.

    Raises:
        ExportError: a range is missing, or more than int8 can hold.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    if not names:
        return copied
    read = _read_by(model, ranges, names)
    # A range of zero has no scale; such a tensor is zero, whatever the scale.
    limits = {name: np.float32(_half_up(ranges.largest[name] / _LEVELS or 1.0) * _LEVELS) for name in sorted(read)}
    tensors: dict[str, Any] = {name: TensorData(lowest=-limit, highest=limit) for name, limit in limits.items()}
    quantizer: Any = QDQQuantizer(
        copied,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
        nodes_to_quantize=list(names),
        nodes_to_exclude=[],
        op_types_to_quantize=list(PRODUCTS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
        },
    )
    level = logging.root.level
    try:
        logging.root.setLevel(logging.ERROR)  # it logs to the root, about weights that are none of ours
        quantizer.quantize_model()
    finally:
        logging.root.setLevel(level)
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    _requantise_(result, model)
    return result


def _read_by(model: onnx.ModelProto, ranges: Ranges, names: Sequence[str]) -> set[str]:
    """Return the activations that products read."""
    wanted = frozenset(names)
    read = {node.input[0] for node in model.graph.node if node.name in wanted}
    missing = sorted(read - set(ranges.largest))
    if missing:
        raise ExportError(f"Calibration gave no range for {missing[0]}, which a layer to be quantised reads.")
    large = sorted(name for name in read if ranges.largest[name] > _LEVELS * float(np.finfo(np.float16).max))
    if large:
        raise ExportError(
            f"{large[0]} reaches {ranges.largest[large[0]]:.1e}, more than int8 with a scale in fp16 holds. "
            "Keep the layer that reads it in float32."
        )
    return read


def _half_up(scales: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return scales as the next numbers of fp16 from them up, so that the largest value is not cut."""
    wanted = np.maximum(np.asarray(scales, dtype=np.float64), _MIN_SCALE)
    nearest = wanted.astype(np.float16)
    above = np.nextafter(nearest, np.float16(np.inf))
    return np.where(nearest.astype(np.float64) < wanted, above, nearest).astype(np.float64)


def _requantise_(result: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Round scales of weights up to fp16, and quantise the weights by these: rounded later, they would shift them."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in result.graph.initializer}
    weights = {tensor.name: tensor for tensor in source.graph.initializer}
    for node in result.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors:
            continue
        weight = weights[_source_name(node.input[0], weights)]
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        values = numpy_helper.to_array(weight).astype(np.float64)
        scales = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        rounded = _half_up(scales)
        shape = [1] * values.ndim
        if rounded.ndim:
            shape[axis] = -1
        levels = np.clip(np.rint(values / rounded.reshape(shape)), -_LEVELS, _LEVELS).astype(np.int8)
        tensors[node.input[0]].CopyFrom(numpy_helper.from_array(levels, node.input[0]))
        tensors[node.input[1]].CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), node.input[1]))


def _source_name(quantised_name: str, weights: dict[str, Any]) -> str:
    """Return the name of the float32 weight that a quantised one was made from."""
    name = quantised_name.removesuffix("_quantized")
    if name not in weights:
        raise ExportError(
            f"{quantised_name} belongs to no weight: this version of ONNX Runtime names weights otherwise."
        )
    return name
