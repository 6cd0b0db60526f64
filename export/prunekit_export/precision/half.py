"""Write fp16 or bf16 into a model: weights and activations of 16 bits between float32 inputs and outputs.

A node is *low* (computes in 16 bits) or *high* (stays in fp32):

1. High are nodes that the image does not reach, such as shape arithmetic: fp16 holds integers up to 2048 only, bf16 up
   to 256.
2. High are nodes whose operator has no such form in the ONNX schema (Range), and nodes named in `keep_fp32`.
3. Quantise and dequantise nodes are low even on weights: a Cast between them and a convolution costs the int8 kernel.
4. Every other node with a float32 input or output is low; slots that stay float32 by their schema or by rule
   (`scales` and `roi` of Resize) keep their tensor, and Shape reads whichever form there is.
5. A Cast stands only where low meets high or the graph's inputs and outputs, one per tensor.
6. The model's own Casts to the type and back (an autocast block) are joins: what they lead from and to is one tensor of
   that type, and they go where nothing reads their other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.graph import PassResult, editable, exported
from prunekit_export.precision.types import FP16, Half
from prunekit_runtime.near import did_you_mean
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import onnx

_SHAPE_READERS = frozenset({"Shape", "Size"})
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_FP32_SLOTS: dict[str, frozenset[int]] = {"Resize": frozenset({1, 2})}  # roi, scales
_DTYPE_ATTRIBUTES = frozenset({"dtype", "output_dtype"})


@dataclass(frozen=True)
class HalfPass:
    """Convert to fp16 or bf16; nodes named in `keep_fp32` keep computing in float32."""

    keep_fp32: frozenset[str] = frozenset()
    half: Half = FP16
    name: str = "half"

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return the model in 16 bits; one in which nothing is left to convert comes back as it is.

        Raises:
            ExportError: the model has subgraphs, functions or foreign operators, a name in `keep_fp32` is no node,
                or a weight does not fit.
        """
        graph = editable(model)
        _check_names(graph, self.keep_fp32)
        low = _low_nodes(graph, model, self.keep_fp32, self.half)
        if not low:
            return PassResult(model, False)
        _Conversion(graph, low, self.half).run_()
        return PassResult(exported(graph, model), True)


def unsafe_weight_nodes(model: onnx.ModelProto, limit: float = FP16.largest, half: Half = FP16) -> frozenset[str]:
    """Name the nodes with a float32 weight above `limit`, or one that the type makes all zero.

    Raises:
        ExportError: as the pass.
    """
    graph = editable(model)
    return frozenset(
        node.name
        for node, slots in _low_nodes(graph, model, frozenset(), half).values()
        if any(_unsafe(_constant(node.inputs[slot]), limit, half.zero) for slot in slots.inputs)
    )


@dataclass(frozen=True)
class _Slots:
    """Positions of the float32 inputs and outputs of a low node that change their type."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


_Low = dict[int, tuple[Any, _Slots]]  # by id of the graph-surgeon node, which is not hashable by value


class _Conversion:
    """The edit: `halves` maps the name of a float32 tensor to its form of 16 bits."""

    def __init__(self, graph: Any, low: _Low, half: Half) -> None:
        self.graph = graph
        self.low = low
        self.half = half
        self.halves: dict[str, Any] = {}
        self.names = set(graph.tensors()) | {node.name for node in graph.nodes}

    def run_(self) -> None:
        self._join_casts_()
        for node, slots in self.low.values():
            for slot in slots.outputs:
                node.outputs[slot] = self._half_output(node.outputs[slot])
            _retype_(node, self.half)
        for node, slots in self.low.values():
            for slot in slots.inputs:
                node.inputs[slot] = self._half(node.inputs[slot], node.name)
        self._cast_back_()

    def _join_casts_(self) -> None:
        """Take the other side of the model's own Casts as the low form of their float32 side."""
        for node in self.graph.nodes:
            if not _is_join(node, self.half):
                continue
            source, target = node.inputs[0], node.outputs[0]
            if target.dtype == np.float32:
                self.halves[target.name] = source
            elif not self._is_made_low(source):
                self.halves.setdefault(source.name, target)

    def _is_made_low(self, tensor: Any) -> bool:
        made = ((node, self.low[id(node)][1].outputs) for node in tensor.inputs if id(node) in self.low)
        return any(tensor.name == node.outputs[slot].name for node, slots in made for slot in slots)

    def _half_output(self, tensor: Any) -> Any:
        self.halves[tensor.name] = self._variable(tensor)
        return self.halves[tensor.name]

    def _half(self, tensor: Any, user: str) -> Any:
        if tensor.name not in self.halves:
            values = _constant(tensor)
            self.halves[tensor.name] = (
                self._cast(tensor, self._variable(tensor))
                if values is None
                else self._half_constant(tensor.name, values, user)
            )
        return self.halves[tensor.name]

    def _half_constant(self, name: str, values: npt.NDArray[Any], user: str) -> Any:
        import onnx_graphsurgeon as gs

        if _unsafe(values, self.half.largest, self.half.zero):
            raise ExportError(
                f"Weight {name} of node {user} does not fit {self.half.name} (largest magnitude "
                f"{np.abs(values).max():.3g}; {self.half.name} ends at {self.half.largest:.6g} and "
                f"{2 * self.half.zero:.0e}). Keep the node in float32 "
                f"({spelled('--keep-fp32', 'keep_fp32')}), or export fp32."
            )
        return gs.Constant(self._fresh(f"{name}_{self.half.name}"), values.astype(self.half.dtype))

    def _cast_back_(self) -> None:
        """Give what still reads the float32 form of a low node's output (high nodes, graph outputs) a Cast."""
        for node in self.graph.nodes:
            # A Cast to the type that a tensor has now changes nothing.
            if (node.op in _SHAPE_READERS or _is_join(node, self.half)) and self._orphaned(node.inputs[0]):
                node.inputs[0] = self.halves[node.inputs[0].name]
        read = [tensor for node in self.graph.nodes for tensor in node.inputs] + list(self.graph.outputs)
        for tensor in {tensor.name: tensor for tensor in read if self._orphaned(tensor)}.values():
            self._cast(self.halves[tensor.name], tensor)

    def _orphaned(self, tensor: Any) -> bool:
        """Whether the node that made `tensor` now makes its low form."""
        stands = bool(tensor.inputs) or _constant(tensor) is not None or _is_graph_input(self.graph, tensor)
        return tensor.name in self.halves and not stands

    def _cast(self, source: Any, target: Any) -> Any:
        import onnx
        import onnx_graphsurgeon as gs

        kind = self.half.onnx_type if target.dtype == self.half.dtype else onnx.TensorProto.FLOAT
        name = self._fresh(f"Cast_{target.name}")
        self.graph.nodes.append(gs.Node("Cast", name, attrs={"to": int(kind)}, inputs=[source], outputs=[target]))
        return target

    def _variable(self, tensor: Any) -> Any:
        import onnx_graphsurgeon as gs

        return gs.Variable(self._fresh(f"{tensor.name}_{self.half.name}"), dtype=self.half.dtype, shape=tensor.shape)

    def _fresh(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _check_names(graph: Any, keep_fp32: frozenset[str]) -> None:
    unknown = keep_fp32 - {node.name for node in graph.nodes}
    if unknown:
        name = min(unknown)
        near = did_you_mean(name, [node.name for node in graph.nodes])
        raise ExportError(f"{spelled('--keep-fp32', 'keep_fp32')} names {name}, and the file has no such node.{near}")


def _low_nodes(graph: Any, model: onnx.ModelProto, keep_fp32: frozenset[str], half: Half) -> _Low:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    taken = (node for node in _reached(graph) if node.name not in keep_fp32 and not _is_join(node, half))
    found = ((node, _half_slots(node, opset, half)) for node in taken)
    return {id(node): (node, slots) for node, slots in found if slots.inputs or slots.outputs}


def _is_join(node: Any, half: Half) -> bool:
    """Whether a node is a Cast between float32 and the type."""
    sides = {node.inputs[0].dtype, node.outputs[0].dtype} if node.op == "Cast" else set[Any]()
    return sides == {np.dtype(np.float32), half.dtype}


def _reached(graph: Any) -> Iterator[Any]:
    """Yield the nodes that see the image's values, and all quantisers; `graph` is in topological order."""
    seen = {tensor.name for tensor in graph.inputs}
    for node in graph.nodes:
        sees = node.op not in _SHAPE_READERS and any(tensor.name in seen for tensor in node.inputs)
        if sees:
            seen.update(tensor.name for tensor in node.outputs)
        if sees or node.op in _QUANTISERS:
            yield node


def _half_slots(node: Any, opset: int, half: Half) -> _Slots:
    import onnx

    schema = onnx.defs.get_schema(node.op, opset, "")
    if _DTYPE_ATTRIBUTES & set(node.attrs):
        return _Slots((), ())
    allowed = {item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints}
    fixed = _FP32_SLOTS.get(node.op, frozenset())
    return _Slots(
        tuple(i for i in _takes(half, node.inputs, schema.inputs, allowed) if i not in fixed),
        tuple(_takes(half, node.outputs, schema.outputs, allowed)),
    )


def _takes(half: Half, tensors: Any, formal: Any, allowed: dict[str, set[str]]) -> Iterator[int]:
    for slot, tensor in enumerate(tensors):
        kind = formal[min(slot, len(formal) - 1)].type_str  # the last formal parameter may be variadic
        if tensor.name and tensor.dtype == np.float32 and half.schema_name in allowed.get(kind, {kind}):
            yield slot


def _retype_(node: Any, half: Half) -> None:
    """Turn a Cast to float32 into one to the type."""
    import onnx

    if node.op == "Cast" and node.attrs["to"] == onnx.TensorProto.FLOAT:
        node.attrs["to"] = half.onnx_type


def _constant(tensor: Any) -> npt.NDArray[Any] | None:
    import onnx_graphsurgeon as gs

    return tensor.values if isinstance(tensor, gs.Constant) else None


def _is_graph_input(graph: Any, tensor: Any) -> bool:
    return any(tensor is value for value in graph.inputs)


def _unsafe(values: npt.NDArray[Any] | None, limit: float, zero: float) -> bool:
    if values is None or values.dtype != np.float32:
        return False
    finite = np.abs(values[np.isfinite(values)])
    too_large = finite.size > 0 and float(finite.max()) > limit
    return too_large or (finite.size > 0 and 0 < float(finite.max()) <= zero)
