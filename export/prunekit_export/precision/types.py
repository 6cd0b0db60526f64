"""Which number types a model holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def holds_half(model: onnx.ModelProto) -> bool:
    """Say whether a weight or a Cast of `model` is fp16, so that it rounds to fp16 somewhere."""
    import onnx

    half = onnx.TensorProto.FLOAT16
    weights = any(tensor.data_type == half for tensor in model.graph.initializer)
    return weights or any(
        attribute.name == "to" and attribute.i == half for node in model.graph.node for attribute in node.attribute
    )


def holds_int8(model: onnx.ModelProto) -> bool:
    """Say whether activations of `model` are rounded to int8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)
