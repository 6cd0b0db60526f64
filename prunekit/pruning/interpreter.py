"""Walks an exported graph on channel ids: values, parameters, what the rules record."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from prunekit.errors import PruneError
from prunekit.pruning.ids import NONE, IdSpace, compress, fixed, is_nothing, nothing, varies, without_repeats
from prunekit.pruning.parts import Derivation
from prunekit.pruning.values import Computed as Computed
from prunekit.pruning.values import LayerRule, RawGroups, RawSlot, Source
from prunekit.pruning.values import RawCost as RawCost
from prunekit.pruning.values import Rule as Rule
from prunekit.pruning.values import Weight as Weight

# Element ids of a learnt tensor larger than this would cost more memory than the network itself.
MAX_DATA_ELEMENTS = 1 << 23


@dataclass
class Interpreter:
    """The state of one walk: id tensors by node, and everything recorded on the way."""

    rules: dict[str, Rule]
    names: Mapping[str, str] = field(default_factory=dict)
    """First name of each tied parameter and buffer, by each of its names."""
    space: IdSpace = field(default_factory=IdSpace)
    slots: dict[tuple[str, int], RawSlot] = field(default_factory=dict)
    data: dict[str, Tensor] = field(default_factory=dict)
    costs: list[RawCost] = field(default_factory=list)
    grouped: dict[tuple[str, str], RawGroups] = field(default_factory=dict)
    """Convolutions and norms with groups, by the name of a module that may keep their number and of what they read."""
    assumptions: dict[str, list[Tensor]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Parameters and buffers that some op reads."""
    node: Node | None = None
    derivation: Derivation | None = None
    _as_data: dict[Node, object] = field(default_factory=dict)

    @torch.no_grad()
    def run(self, program: ExportedProgram) -> None:
        """Interpret a whole graph; a second one adds to what the first recorded."""
        weights = self._weights(program)
        self.used |= {weight.name for node, weight in weights.items() if node.users}
        inputs = {node: self._input(node) for node in program.graph.nodes if node.op == "placeholder"}
        for value in pytree.tree_leaves(self._walk(program.graph_module, {**inputs, **weights})):
            if isinstance(value, (Tensor, Weight, Computed)):
                self.space.freeze(self.ids_of(value), "reaches the network's output")

    def _walk(self, module: GraphModule, inputs: Mapping[Node, object]) -> object:
        """Interpret one graph, given its inputs; return its outputs."""
        last_use = _last_uses(list(module.graph.nodes))
        values: dict[Node, object] = {}
        for node in module.graph.nodes:
            self.node = node
            if node.op == "placeholder":
                values[node] = inputs[node]
            elif node.op == "get_attr":
                inner = getattr(module, str(node.target), None)
                values[node] = inner if isinstance(inner, GraphModule) else _none_like(node)
            elif node.op == "call_function":
                values[node] = self._call(node, values)
            else:
                return pytree.tree_map_only(Node, lambda n: values.get(n), node.args[0])
            for dead in last_use.get(node, ()):
                values.pop(dead, None)
        return None

    def _weights(self, program: ExportedProgram) -> dict[Node, Weight]:
        signature = program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        tensors = {**program.state_dict, **program.constants}
        shapes = {name: tuple(cast(Tensor, tensors[name]).shape) for name in names.values()}
        return {
            node: Weight(self.names.get(name, name), shapes[name])
            for node in program.graph.nodes
            if (name := names.get(node.name)) is not None
        }

    def _input(self, node: Node) -> object:
        value = node.meta.get("val")
        # Every entry of a user's input is fixed along its channels; along space it carries nothing that can be cut.
        # A number belongs to no channel.
        channels = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0
        return fixed(value.shape) if channels else _none_like(node)

    def _call(self, node: Node, values: dict[Node, object]) -> object:
        args, kwargs = pytree.tree_map_only(Node, lambda n: values[n], (node.args, node.kwargs))
        if node.target is operator.getitem:
            if isinstance(args[0], Computed):
                return _computed(node, "getitem", args, kwargs)
            return args[0][args[1]] if isinstance(args[0], (tuple, list)) else args[0]
        bodies = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, GraphModule)]
        if bodies:
            return self._call_bodies(bodies, args)
        name = op_name(node)
        rule = self.rules.get(name)
        if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            rule = self.rules["pointwise"]
        channels, weights = _kinds(args, kwargs)
        if weights and not channels and not _is_layer(rule, args):
            return _computed(node, name, args, kwargs)
        if rule is None:
            return self._unknown(name, node, args, kwargs)
        return self._apply(rule, args, kwargs) if channels or weights else _none_like(node)

    def _apply(self, rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        kept = args[rule.first :] if isinstance(rule, LayerRule) else ()
        given = args[: len(args) - len(kept)]
        if not isinstance(rule, LayerRule):
            kwargs = self._in_ids(kwargs)
        return rule(self, *self._in_ids(given), *kept, **kwargs)

    def _in_ids(self, values: Any) -> Any:
        return pytree.tree_map_only((Weight, Computed), self.ids_of, values)

    def _call_bodies(self, bodies: list[GraphModule], args: tuple[Any, ...]) -> object:
        """Walk the graph that a block (no_grad, autocast, checkpointing) wraps; of a condition both ways, tied."""
        node = self.node
        operands = [leaf for leaf in _after(args, bodies[-1]) if not isinstance(leaf, GraphModule)]
        results: list[object] = []
        for body in bodies:
            inputs = [inner for inner in body.graph.nodes if inner.op == "placeholder"]
            given = operands[len(operands) - len(inputs) :]
            results.append(self._walk(body, dict(zip(inputs, given, strict=True))))
        self.node = node
        for other in results[1:]:
            for left, right in zip(pytree.tree_leaves(results[0]), pytree.tree_leaves(other), strict=True):
                self.space.unite(self.ids_of(left), self.ids_of(right))
        return results[0]

    def _unknown(self, name: str, node: Node, args: Any, kwargs: Any) -> object:
        if not any(_kinds(args, kwargs)):
            return _none_like(node)
        if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(node.meta.get("val"))):
            return None  # an assertion makes nothing
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, (Tensor, Weight, Computed)):
                self.space.freeze(self.ids_of(leaf), f"used by {name}, which the analysis does not know")
        return pytree.tree_map_only(Tensor, lambda v: fixed(v.shape), node.meta.get("val"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the current op's (first) output."""
        assert self.node is not None
        value = self.node.meta["val"]
        return tuple((value[0] if isinstance(value, (tuple, list)) else value).shape)

    def like_output(self, ids: Tensor) -> object:
        """Return `ids` once for each output of the current op: values and their indices belong to the same channels."""
        assert self.node is not None
        value = self.node.meta["val"]
        return tuple(ids for _ in value) if isinstance(value, (tuple, list)) else ids

    @property
    def layer(self) -> str:
        """Name of the module that the current op belongs to, as the user's code calls it."""
        assert self.node is not None
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else self.node.name

    def ids_of(self, value: object) -> Tensor:
        """Return the id tensor of an operand; a weight used as data gets an id per element."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Computed):
            return cast(Tensor, self._data_of(value))
        if not isinstance(value, Weight):
            raise PruneError(f"The analysis met {type(value).__name__} where a tensor was due, in {self.node}.")
        if value.name not in self.data:
            small = int(np.prod(value.shape)) <= MAX_DATA_ELEMENTS
            self.data[value.name] = self.space.fresh(value.shape) if small else fixed(value.shape)
        return self.data[value.name]

    def _data_of(self, value: Computed) -> object:
        """Run the rule that was put off while only weights were met."""
        if value.node not in self._as_data:
            node, self.node = self.node, value.node
            rule = self.rules.get(value.op)
            if value.op == "getitem":
                found = cast(Any, self._data_of(value.args[0]))[value.args[1]]
            elif rule is None and torch.Tag.pointwise in getattr(value.node.target, "tags", ()):
                found = self._apply(self.rules["pointwise"], value.args, value.kwargs)
            elif rule is None:
                found = self._unknown(value.op, value.node, value.args, value.kwargs)
            else:
                found = self._apply(rule, value.args, value.kwargs)
            self._as_data[value.node], self.node = found, node
        return self._as_data[value.node]

    def _computed_slot(self, weight: Computed, dim: int, role: str, ids: Tensor) -> Tensor:
        if self.derivation is None:
            self.derivation = Derivation(self.space)
        found = self.derivation.of(weight)
        along = [part for part in found.parts if varies(part.ids, dim)]
        if not along:
            self.space.freeze(ids, found.stuck)
        for part in along:
            if any(varies(part.ids, d) for d in range(part.ids.dim()) if d != dim):
                self.space.freeze(part.ids, found.stuck)
                self.space.freeze(ids, found.stuck)
                continue
            self.space.unite(without_repeats(part.ids, keep=dim).reshape(-1), ids)
            if not part.vanishes:
                self.space.freeze(ids, "feeds a layer whose computed weight is not zero where its parameters are")
            for source in sorted(part.sources):
                self._source_slot(source, role)
        for source in sorted(self.derivation.followers):
            self._source_slot(source, "norm")
        return ids

    def _source_slot(self, source: Source, role: str) -> None:
        assert self.derivation is not None
        name, dim = source
        shape, ids = self.derivation.shapes[name], self.derivation.sources[source]
        self.slot(Weight(name, shape), dim, "norm" if math.prod(shape) == len(ids) else role, ids)

    def slot(self, weight: Weight | Computed, dim: int, role: str, ids: Tensor) -> Tensor:
        """Record that `dim` of `weight` runs along `ids`, tie it to earlier uses, return the ids to go on with."""
        ids = ids.reshape(-1)
        if isinstance(weight, Computed):
            return self._computed_slot(weight, dim, role, ids)
        known = self.slots.get((weight.name, dim))
        if known is None:
            self.slots[weight.name, dim] = RawSlot(weight.name, dim, role, ids)
            return ids
        self.space.unite(known.ids, ids)
        return known.ids

    def assume(self, ids: Tensor) -> None:
        """Record that the current op relies on sizes that the user's code must compute, not write as constants."""
        assert self.node is not None
        self.assumptions.setdefault(f"{self.layer}: {op_name(self.node)}", []).append(without_repeats(ids).reshape(-1))

    def channels(self, ids: Tensor, dim: int) -> Tensor:
        """Return one id per position of `dim`, tying all ids that stand at that position."""
        dim %= ids.dim()
        core = without_repeats(ids.movedim(dim, 0), keep=0)
        rows = core.reshape(core.shape[0], -1)
        if rows.shape[1] == 1:
            return rows[:, 0]
        top = rows.max(dim=1, keepdim=True).values
        self.space.unite(top.expand_as(rows), rows)
        mixed = (rows == NONE) & (top != NONE)
        if bool(mixed.any()):
            self.space.freeze(top[mixed.any(dim=1)], "shares a channel with values made by size")
        return top[:, 0]

    def resolved(self, ids: Tensor) -> Tensor:
        """Return `ids` with what is tied by now written alike, so that a tied dimension no longer varies."""
        if sum(varies(ids, dim) for dim in range(ids.dim())) < 2:
            return ids
        labels = torch.from_numpy(self.space.labels()).to(torch.int32)
        core = without_repeats(ids)
        return compress(compress(labels[core.long()]).expand(ids.shape))

    def settle(self, ids: Tensor, spatial: int) -> Tensor:
        """Tie ids over the last `spatial` dimensions and return them with length 1 there."""
        lead = ids.shape[: ids.dim() - spatial]
        core = ids
        for dim in range(ids.dim() - spatial, ids.dim()):
            if not varies(core, dim):
                core = core.narrow(dim, 0, 1)
        flat = core.reshape(*lead, -1)
        top = flat.max(dim=-1, keepdim=True).values if flat.shape[-1] > 1 else flat
        self.space.unite(top.expand_as(flat), flat)
        return compress(top.reshape(*lead, *([1] * spatial)))


def op_name(node: Node) -> str:
    """Return "conv2d" for aten.conv2d.default, "relu" for aten.relu_.default."""
    packet = getattr(node.target, "overloadpacket", None)
    name = str(packet).rpartition(".")[2] if packet is not None else str(node.target)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _kinds(args: Any, kwargs: Any) -> tuple[bool, bool]:
    """Tell whether values of channels are among some arguments, and whether weights are."""
    leaves = pytree.tree_leaves((args, kwargs))
    channels = any(isinstance(leaf, Tensor) and not is_nothing(leaf) for leaf in leaves)
    return channels, any(isinstance(leaf, (Weight, Computed)) for leaf in leaves)


def _is_layer(rule: Rule | None, args: tuple[Any, ...]) -> bool:
    return isinstance(rule, LayerRule) and (rule.makes or not isinstance(args[0], (Weight, Computed)))


def _computed(node: Node, name: str, args: Any, kwargs: Any) -> Computed | None:
    tensors = [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
    if not tensors:
        return None  # an assertion makes nothing
    return Computed(node, name, tuple(args), dict(kwargs), tuple(tensors[0].shape))


def _after(args: tuple[Any, ...], body: GraphModule) -> list[Any]:
    """Return what a block's graph is called with: all that follows it."""
    leaves = pytree.tree_leaves(args)
    return leaves[1 + next(index for index, leaf in enumerate(leaves) if leaf is body) :]


def _none_like(node: Node) -> object:
    return pytree.tree_map_only(Tensor, lambda v: nothing(v.shape), node.meta.get("val"))


def _last_uses(nodes: list[Node]) -> dict[Node, list[Node]]:
    """Return for each node the values that nobody needs after it."""
    last: dict[Node, Node] = {}
    for node in nodes:
        for needed in node.all_input_nodes:
            last[needed] = node
    table: dict[Node, list[Node]] = {}
    for needed, node in last.items():
        table.setdefault(node, []).append(needed)
    return table
