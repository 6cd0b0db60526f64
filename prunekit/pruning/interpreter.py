"""Walks an exported graph on channel ids: values, parameters, what the rules record."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.errors import PruneError
from prunekit.pruning.ids import NONE, IdSpace, compress, fixed, is_nothing, nothing, varies, without_repeats

Rule = Callable[..., object]

# Element ids of a learnt tensor larger than this would cost more memory than the network itself.
MAX_DATA_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer on its way to the op that uses it."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RawSlot:
    """A slot whose ids are not resolved to labels yet."""

    parameter: str
    dim: int
    role: str
    ids: Tensor


@dataclass(frozen=True)
class RawCost:
    """A cost whose ids are not resolved to labels yet."""

    layer: str
    positions: int
    dims: tuple[Tensor, ...]


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
    grouped: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    norms: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    assumptions: dict[str, list[Tensor]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Parameters and buffers that some op reads."""
    node: Node | None = None

    @torch.no_grad()
    def run(self, program: ExportedProgram) -> None:
        """Interpret a whole graph; a second one adds to what the first recorded."""
        graph = program.graph_module.graph
        weights = self._weights(program)
        last_use = _last_uses(list(graph.nodes))
        values: dict[Node, object] = {}
        for node in graph.nodes:
            self.node = node
            if node.op == "placeholder":
                weight = weights.get(node.name)
                values[node] = self._input(node) if weight is None else weight
                if weight is not None and node.users:
                    self.used.add(weight.name)
            elif node.op == "get_attr":
                values[node] = _none_like(node)
            elif node.op == "call_function":
                values[node] = self._call(node, values)
            else:
                self._output(node, values)
            for dead in last_use.get(node, ()):
                values.pop(dead, None)

    def _weights(self, program: ExportedProgram) -> dict[str, Weight]:
        signature = program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        tensors = {**program.state_dict, **program.constants}
        shapes = {name: tuple(cast(Tensor, tensors[name]).shape) for name in names.values()}
        return {node: Weight(self.names.get(name, name), shapes[name]) for node, name in names.items()}

    def _input(self, node: Node) -> object:
        value = node.meta.get("val")
        # Every entry of a user's input is fixed along its channels; along space it carries nothing that can be cut.
        return fixed(value.shape) if isinstance(value, Tensor) and value.is_floating_point() else _none_like(node)

    def _call(self, node: Node, values: dict[Node, object]) -> object:
        args, kwargs = pytree.tree_map_only(Node, lambda n: values[n], (node.args, node.kwargs))
        if node.target is operator.getitem:
            return args[0][args[1]] if isinstance(args[0], (tuple, list)) else args[0]
        name = _op_name(node)
        rule = self.rules.get(name)
        if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            rule = self.rules["pointwise"]
        if rule is None or not self._carries_channels(args, kwargs):
            return self._unknown(name, node, args, kwargs) if rule is None else self._plain(node, rule, args, kwargs)
        return rule(self, *args, **kwargs)

    def _plain(self, node: Node, rule: Rule, args: Any, kwargs: Any) -> object:
        """Run a rule on values without channels: layers still make theirs, everything else makes none."""
        if any(isinstance(leaf, Weight) for leaf in pytree.tree_leaves((args, kwargs))):
            return rule(self, *args, **kwargs)
        return _none_like(node)

    def _unknown(self, name: str, node: Node, args: Any, kwargs: Any) -> object:
        if not self._carries_channels(args, kwargs) and not _touches_weights(args, kwargs):
            return _none_like(node)
        if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(node.meta.get("val"))):
            return None  # an assertion makes nothing
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, (Tensor, Weight)):
                self.space.freeze(self.ids_of(leaf), f"used by {name}, which the analysis does not know")
        return pytree.tree_map_only(Tensor, lambda v: fixed(v.shape), node.meta.get("val"))

    def _carries_channels(self, args: Any, kwargs: Any) -> bool:
        return any(isinstance(leaf, Tensor) and not is_nothing(leaf) for leaf in pytree.tree_leaves((args, kwargs)))

    def _output(self, node: Node, values: dict[Node, object]) -> None:
        for leaf in pytree.tree_leaves(node.args):
            value = values.get(leaf) if isinstance(leaf, Node) else None
            if isinstance(value, (Tensor, Weight)):
                self.space.freeze(self.ids_of(value), "reaches the network's output")

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
        if not isinstance(value, Weight):
            raise PruneError(f"The analysis met {type(value).__name__} where a tensor was due, in {self.node}.")
        if value.name not in self.data:
            small = int(np.prod(value.shape)) <= MAX_DATA_ELEMENTS
            self.data[value.name] = self.space.fresh(value.shape) if small else fixed(value.shape)
        return self.data[value.name]

    def slot(self, weight: Weight, dim: int, role: str, ids: Tensor) -> Tensor:
        """Record that `dim` of `weight` runs along `ids`, tie it to earlier uses, return the ids to go on with."""
        ids = ids.reshape(-1)
        known = self.slots.get((weight.name, dim))
        if known is None:
            self.slots[weight.name, dim] = RawSlot(weight.name, dim, role, ids)
            return ids
        self.space.unite(known.ids, ids)
        return known.ids

    def assume(self, ids: Tensor) -> None:
        """Record that the current op relies on sizes that the user's code must compute, not write as constants."""
        assert self.node is not None
        self.assumptions.setdefault(f"{self.layer}: {_op_name(self.node)}", []).append(without_repeats(ids).reshape(-1))

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


def _op_name(node: Node) -> str:
    """Return "conv2d" for aten.conv2d.default, "relu" for aten.relu_.default."""
    packet = getattr(node.target, "overloadpacket", None)
    name = str(packet).rpartition(".")[2] if packet is not None else str(node.target)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _touches_weights(args: Any, kwargs: Any) -> bool:
    return any(isinstance(leaf, Weight) for leaf in pytree.tree_leaves((args, kwargs)))


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
