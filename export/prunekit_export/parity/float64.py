"""A float32 file in float64: the same graph with so little rounding that hardly a decision inside depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx


def as_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with weights, constants and Casts in float64, for the reference evaluator.

    It is no valid file: operators whose schema knows float32 alone (scales of Resize) get float64 too, which numpy
    takes.
    """
    import onnx

    double = onnx.ModelProto()
    double.CopyFrom(model)
    for tensor in _tensors(double.graph):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in double.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
    return double


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
