"""A file of 16 bits as float32 operators with a rounding after each, which ONNX Runtime runs at full speed.

This is what tensor cores do: exact products of fp16 or bf16 numbers, float32 sums, one rounding of the result. ONNX
Runtime's CPU kernels for fp16 are few and slow, for bf16 there are none, and where it inserts its own casts it may
leave out a rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.precision.types import HALVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

# What only moves, picks or keeps the values of its inputs gives numbers of the type that it got.
_EXACT_NAMES = (
    "Abs Clip Compress Concat DepthToSpace Expand Flatten Gather GatherElements GatherND GlobalMaxPool Identity Max "
    "MaxPool Min Neg Pad Relu Reshape ScatterElements ScatterND Slice SpaceToDepth Split Squeeze Tile Transpose Trilu "
    "Unsqueeze Where"
)
_EXACT = frozenset(_EXACT_NAMES.split())
_HALVES = frozenset(half.onnx_type for half in HALVES.values())
# The type of their result stands in an attribute.
_TYPED = frozenset({"CastLike", "EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"})


class RoundingError(ExportError):
    """A file that cannot be written with roundings."""


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in float32, each fp16 or bf16 tensor holding numbers that its type has.

    Raises:
        RoundingError: it has subgraphs or functions, or does not tell the type of a tensor.
    """
    import onnx

    if model.functions:
        raise RoundingError("functions")
    written = onnx.ModelProto()
    written.CopyFrom(onnx.shape_inference.infer_shapes(model))
    rounding = _Rounding(_types(written))
    nodes = [made for node in written.graph.node for made in rounding.nodes(node)]
    written.graph.ClearField("node")
    written.graph.node.extend(nodes)
    for tensor in written.graph.initializer:
        _widen_(tensor)
    written.graph.ClearField("value_info")
    for value in (*written.graph.input, *written.graph.output):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return written


class _Rounding:
    """Writes nodes; `types` are those of the tensors in the file."""

    def __init__(self, types: dict[str, int]) -> None:
        import onnx

        self._types = types
        self._full = onnx.TensorProto.FLOAT
        self._taken = set(types)

    def nodes(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yield the node in float32, and the roundings of its results."""
        import onnx

        if node.op_type in _TYPED or any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise RoundingError(node.op_type)
        unknown = [name for name in node.output if name and not self._types.get(name)]
        if unknown:
            raise RoundingError(unknown[0])
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for attribute in made.attribute:
            self._widen_(attribute)
        if node.op_type in _EXACT or node.op_type == "Constant":
            yield made
            return
        half = [slot for slot, name in enumerate(node.output) if name and self._types[name] in _HALVES]
        roundings = [each for slot in half for each in self._round_(made, slot)]
        yield made
        yield from roundings

    def _widen_(self, attribute: onnx.AttributeProto) -> None:
        if attribute.HasField("t"):
            _widen_(attribute.t)
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in _HALVES:
            attribute.i = self._full

    def _round_(self, node: onnx.NodeProto, slot: int) -> Iterator[onnx.NodeProto]:
        """Let the node give its exact result another name, and yield the nodes that round it."""
        import onnx

        name = node.output[slot]
        exact, half = self._fresh(f"{name}__exact"), self._fresh(f"{name}__half")
        node.output[slot] = exact
        yield onnx.helper.make_node("Cast", [exact], [half], name=half, to=self._types[name])
        yield onnx.helper.make_node("Cast", [half], [name], name=f"{half}_back", to=self._full)

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _widen_(tensor: onnx.TensorProto) -> None:
    """Turn values of 16 bits into float32; exact."""
    import onnx

    if tensor.data_type not in _HALVES:
        return
    values: Any = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
