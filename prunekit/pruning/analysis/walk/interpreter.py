"""Walks an exported graph on channel ids: which rule each op is given to, and on which values."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.walk.arguments import in_order, makes_view, writes
from prunekit.pruning.analysis.walk.constants import is_random
from prunekit.pruning.analysis.walk.context import Context
from prunekit.pruning.analysis.walk.graph import carries, computed, is_layer, is_weight, last_uses, none_like, op_name
from prunekit.pruning.analysis.walk.ids import NONE, drawn, fits, fixed, shrunk, sizes, varies, without_repeats
from prunekit.pruning.analysis.walk.values import Computed as Computed
from prunekit.pruning.analysis.walk.values import LayerRule
from prunekit.pruning.analysis.walk.values import RawCost as RawCost
from prunekit.pruning.analysis.walk.values import Rule as Rule
from prunekit.pruning.analysis.walk.values import Weight as Weight

_MAX_TRACED = 1 << 16
_NOT_FOLLOWED = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError)
"""What a rule raises on arguments that it does not expect."""

_RUN_ONCE = re.compile("cond|wrap.*|tag_activation_checkpoint|hints_wrapper|strict_mode|invoke_subgraph")
"""Ops that run the graphs they are given, once and on their operands; others loop, or hand them parts."""


@dataclass
class Interpreter(Context):
    """A walk: `run` goes through a graph, and calls the rules."""

    trace: dict[Node, Tensor] = field(default_factory=dict)
    """Ids of the nodes with channels in the first graph, without repeats."""
    tracing: bool = True
    """Whether the graph is the first."""
    training: bool = False
    """Whether the graph is that of training mode, where random numbers are drawn anew each time anyway."""
    _as_data: dict[Node, object] = field(default_factory=dict)

    @torch.no_grad()
    def run(self, program: ExportedProgram) -> None:
        """Interpret a whole graph; a second one adds to what the first recorded."""
        weights = self._weights(program)
        self.used |= {weight.name for node, weight in weights.items() if node.users}
        self.constants.lift(program)
        inputs = {node: self._input(node) for node in program.graph.nodes if node.op == "placeholder"}
        for value in pytree.tree_leaves(self._walk(program.graph_module, {**inputs, **weights})):
            if isinstance(value, (Tensor, Weight, Computed)):
                self.space.freeze(self.ids_of(value), "reaches the network's output")

    def _walk(self, module: GraphModule, inputs: Mapping[Node, object]) -> object:
        """Interpret one graph, given its inputs; return its outputs."""
        last_use = last_uses(list(module.graph.nodes))
        values: dict[Node, object] = {}
        for node in module.graph.nodes:
            self.node = node
            if node.op == "placeholder":
                values[node] = inputs[node]
            elif node.op == "get_attr":
                inner = getattr(module, str(node.target), None)
                values[node] = inner if isinstance(inner, GraphModule) else none_like(node)
            elif node.op == "call_function":
                if not self.constants.evaluate(node):
                    values[node] = self._call(node, values)
                    self._remember(node, values[node])
            else:
                return pytree.tree_map_only(Node, lambda n: self._value(n, values), node.args[0])
            for dead in last_use.get(node, ()):
                values.pop(dead, None)
                self.constants.forget(dead)
        return None

    def _remember(self, node: Node, value: object) -> None:
        if isinstance(value, Tensor) and self.tracing and any(varies(value, d) for d in range(value.dim())):
            core = without_repeats(value)
            if core.numel() <= _MAX_TRACED:
                self.trace[node] = core.clone()

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
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0:
            return fixed(value.shape)
        return none_like(node)

    def _value(self, node: Node, values: Mapping[Node, object]) -> object:
        return self.constants.ids(node, self.space) if node in self.constants else values[node]

    def _call(self, node: Node, values: Mapping[Node, object]) -> object:
        given = {source: self._value(source, values) for source in node.all_input_nodes}
        args, kwargs = pytree.tree_map_only(Node, given.__getitem__, (node.args, node.kwargs))
        if node.target is operator.getitem:
            if isinstance(args[0], Computed):
                return computed(node, "getitem", args, kwargs)
            return args[0][args[1]] if isinstance(args[0], (tuple, list)) else args[0]
        if any(isinstance(value, GraphModule) for value in given.values()):
            return self._call_bodies(node, given)
        if not self.training and is_random(node):
            return self._random(node, args, kwargs)
        args, kwargs = in_order(node.target, args, kwargs)
        rule = self._rule(node)
        channels = any(carries(value) for source, value in given.items() if source not in self.constants)
        weights = any(is_weight(value) for value in given.values())
        if weights and writes(node.target) and is_weight(args[0]) and makes_view(next(iter(node.args), None)):
            self._freeze_written(args[0])
        if weights and not channels and not is_layer(rule, args):
            return computed(node, op_name(node), args, kwargs, finite=self._finite(node, given))
        if rule is None:
            return self._unknown(node, args, kwargs)
        if not weights and not any(carries(value) for value in given.values()):
            return none_like(node)
        return self._by_rule(rule, node, args, kwargs, finite=self._finite(node, given))

    def _rule(self, node: Node) -> Rule | None:
        pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
        return self.rules.get(op_name(node), self.rules["pointwise"] if pointwise else None)

    def _finite(self, node: Node, given: Mapping[Node, object]) -> bool:
        """Follow zeros through one op; tell whether it is finite where what can be cut is zero."""
        carrying = {n for n, value in given.items() if n not in self.constants and (carries(value) or is_weight(value))}
        return self.zeros.note(node, op_name(node), carrying, pointwise=self._rule(node) is self.rules["pointwise"])

    def _by_rule(self, rule: Rule, node: Node, args: Any, kwargs: Any, *, finite: bool) -> object:
        """Run a rule; an op that it does not follow, or that it gives another shape than torch, is an unknown one."""
        if not finite:
            self._freeze_all((args, kwargs), f"would not be finite behind {op_name(node)} if it were removed")
        try:
            result = self._apply(rule, args, kwargs)
        except _NOT_FOLLOWED:
            return self._unknown(node, args, kwargs)
        if not fits(result, node.meta.get("val")):
            return self._unknown(node, args, kwargs)
        if writes(node.target):
            self._written(args[0], result)
        return result

    def _apply(self, rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        kept = args[rule.first :] if isinstance(rule, LayerRule) else ()
        given = args[: len(args) - len(kept)]
        if not isinstance(rule, LayerRule):
            kwargs = self._in_ids(kwargs)
        return rule(self, *self._in_ids(given), *kept, **kwargs)

    def _in_ids(self, values: Any) -> Any:
        return pytree.tree_map_only((Weight, Computed), self.ids_of, values)

    def _written(self, target: object, result: object) -> None:
        """Freeze what is written in place where no channel was: other views of that place know nothing of it."""
        if not isinstance(target, Tensor) or not isinstance(result, Tensor) or target.shape != result.shape:
            return
        before, after = shrunk(target, result)
        self.space.freeze(after[(before == NONE) & (after != NONE)], "is written into a tensor made by size")

    def _freeze_written(self, view: object) -> None:
        """Freeze a weight that is written through a view: what it was computed of is not told."""
        reason = "is written in place by the network's code"
        for part in self.derivation.of(view).parts:
            self.space.freeze(part.ids, reason)
        self._freeze_all(view, reason)

    def _random(self, node: Node, args: Any, kwargs: Any) -> object:
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, (Tensor, Weight, Computed)):
                self.space.freeze_drawn(self.ids_of(leaf))
        return pytree.tree_map_only(Tensor, lambda v: drawn(sizes(v)), node.meta.get("val"))

    def _unknown(self, node: Node, args: Any, kwargs: Any) -> object:
        leaves = pytree.tree_leaves((args, kwargs))
        if not any(carries(leaf) or is_weight(leaf) for leaf in leaves):
            return none_like(node)
        if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(node.meta.get("val"))):
            return None  # an assertion makes nothing
        self._freeze_all(leaves, f"used by {op_name(node)}, which the analysis does not know")
        return pytree.tree_map_only(Tensor, lambda v: fixed(sizes(v)), node.meta.get("val"))

    def _freeze_all(self, values: object, reason: str) -> None:
        for leaf in pytree.tree_leaves(values):
            if isinstance(leaf, (Tensor, Weight, Computed)):
                self.space.freeze(self.ids_of(leaf), reason)

    def _call_bodies(self, node: Node, given: Mapping[Node, object]) -> object:
        """Walk the graph that a block (no_grad, autocast, checkpointing) wraps; of a condition both ways, tied."""
        leaves = pytree.tree_leaves((node.args, node.kwargs))
        places = [i for i, n in enumerate(leaves) if isinstance(n, Node) and isinstance(given[n], GraphModule)]
        operands = leaves[places[-1] + 1 :]
        if _RUN_ONCE.fullmatch(op_name(node)) is None:
            return self._unknown(node, tuple(given.values()), {})
        results: list[object] = []
        for body in (cast(GraphModule, given[leaves[place]]) for place in places):
            inner = [one for one in body.graph.nodes if one.op == "placeholder"]
            pairs = list(zip(inner, operands[len(operands) - len(inner) :], strict=True))
            sources = {to: source for to, source in pairs if isinstance(source, Node)}
            self.constants.lend(sources)
            self.zeros.enter(sources)
            inputs = {to: given[source] if isinstance(source, Node) else source for to, source in pairs}
            results.append(self._walk(body, inputs))
            self.zeros.leave(node, sources, body)
        self.node = node
        for other in results[1:]:
            for left, right in zip(pytree.tree_leaves(results[0]), pytree.tree_leaves(other), strict=True):
                if isinstance(left, Tensor) or is_weight(left):
                    self.space.unite(self.ids_of(left), self.ids_of(right))
        return results[0]

    def computed_ids(self, value: Computed) -> Tensor:
        """Return the ids of a tensor computed of weights, which is used as data."""
        return cast(Tensor, self._data_of(value))

    def _data_of(self, value: Computed) -> object:
        """Run the rule that was put off while only weights were met."""
        if value.node not in self._as_data:
            node, self.node = self.node, value.node
            rule = self._rule(value.node)
            if value.op == "getitem":
                found = cast(Any, self._data_of(value.args[0]))[value.args[1]]
            elif rule is None:
                found = self._unknown(value.node, value.args, value.kwargs)
            else:
                found = self._by_rule(rule, value.node, value.args, value.kwargs, finite=value.finite)
            self._as_data[value.node], self.node = found, node
        return self._as_data[value.node]
