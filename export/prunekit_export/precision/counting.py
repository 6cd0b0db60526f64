"""In which type a file really computes: the multiply-accumulates of its products, counted by type."""

from __future__ import annotations

import collections
import math
from typing import TYPE_CHECKING

import numpy as np

from prunekit_export.precision.rounding import rounded
from prunekit_export.precision.session import open_session
from prunekit_export.precision.types import BF16, half_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_NAMES = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "fp64"}

Dims = tuple[int, int, int, int]  # N, 3, h, w


def macs_by_type(model: onnx.ModelProto, dims: Dims) -> dict[str, int]:
    """Return the multiply-accumulates of convolutions and matrix products by type, such as {"fp16": 1200, "fp32": 30}.

    Args:
        model: runs once in ONNX Runtime, which tells the shapes.
        dims: of the images.
    """
    nodes = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    types, quantised = _types(model), _dequantised(model)
    shapes = _shapes(model, sorted({name for node in nodes for name in _read(node)}), dims)
    counts: collections.Counter[str] = collections.Counter()
    for node in nodes:
        kind = "int8" if set(node.input[:2]) <= quantised else types.get(node.output[0], "fp32")
        counts[kind] += _macs(node, *(shapes[name] for name in _read(node)))
    return dict(sorted(counts.items()))


def shares(macs: Mapping[str, int]) -> dict[str, float]:
    """Return each type's share of the multiply-accumulates."""
    return {kind: count / max(sum(macs.values()), 1) for kind, count in macs.items()}


def precision_name(model: onnx.ModelProto, macs: Mapping[str, float]) -> str:
    """Return "fp32", "fp16" or another type where all products have it, "mixed" where they differ.

    A file without products is named by the type of 16 bits that it holds, if any.
    """
    kinds = [kind for kind, count in macs.items() if count]
    if not kinds:
        half = half_of(model)
        return half.name if half else "fp32"
    return kinds[0] if len(kinds) == 1 else "mixed"


def _dequantised(model: onnx.ModelProto) -> set[str]:
    """Return the tensors that come from a DequantizeLinear: a product of two of them is one of integers."""
    return {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}


def _read(node: onnx.NodeProto) -> tuple[str, str, str]:
    return node.input[0], node.input[1], node.output[0]


def _macs(node: onnx.NodeProto, first: list[int], second: list[int], result: list[int]) -> int:
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(result) * first[0 if transposed else -1]


def _types(model: onnx.ModelProto) -> dict[str, str]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.output)
    return {value.name: _type_name(value.type.tensor_type.elem_type) for value in values}


def _type_name(kind: int) -> str:
    import onnx

    name = onnx.TensorProto.DataType.Name(kind)
    return _NAMES.get(name, name.lower())


def _shapes(model: onnx.ModelProto, names: list[str], dims: Dims) -> dict[str, list[int]]:
    """Return the shapes of the tensors `names` for images of `dims`."""
    import onnx

    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    measured.graph.ClearField("output")
    for index, name in enumerate(names):
        measured.graph.node.append(onnx.helper.make_node("Shape", [name], [f"__shape{index}"]))
        measured.graph.output.append(
            onnx.helper.make_tensor_value_info(f"__shape{index}", onnx.TensorProto.INT64, None)
        )
    # ONNX Runtime has no bf16 on a CPU.
    measured = rounded(measured) if half_of(measured) == BF16 else measured
    return dict(zip(names, _results(measured, dims), strict=True)) if names else {}


def _results(model: onnx.ModelProto, dims: Dims) -> Iterator[list[int]]:
    session = open_session(model)
    import onnx

    image = model.graph.input[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    feed = {image.name: np.zeros(dims, dtype=dtype)}
    return (shape.tolist() for shape in session.run(None, feed))
