"""Which values are zero at a masked channel: a product may sum over channels only where the masked ones add nothing.

A masked channel leaves its layer as zero. ReLU keeps it so; a sigmoid makes 0.5 of it, which a sum over channels sees.
"""

import math
import operator
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.walk.arguments import writes

_SAMPLES = (-1.7, 0.6, 2.3)
_MAKE = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolution",
    "linear",
    "embedding",
]
"""Ops whose masked weights make zeros of anything."""
_CHANGE = [
    "logsumexp",
    "argmax",
    "argmin",
    "softmax",
    "log_softmax",
    "_softmax",
    "_log_softmax",
    "logcumsumexp",
    "argsort",
    "sort",
    "topk",
    "cummax",
    "cummin",
    "kthvalue",
    "mode",
]
"""Ops that are not element-wise and make something else of zeros, or places."""
_JOIN = ("cat", "concat", "concatenate", "stack", "slice_scatter", "select_scatter")


class Zeros:
    """Remembers by node whether a masked channel is zero there."""

    def __init__(self) -> None:
        self._lost: set[Node | tuple[object, object]] = set()

    def kept(self, node: Node) -> bool:
        """Tell whether the values of `node` are zero at masked channels."""
        if node.target is operator.getitem:
            return node.args not in self._lost and self.kept(node.args[0])  # type: ignore[arg-type,comparison-overlap]
        return node not in self._lost

    def note(self, node: Node, name: str, carrying: set[Node], *, pointwise: bool) -> bool:
        """Work out one op and tell whether it is finite where its inputs with channels, `carrying`, are zero."""
        masked = {source for source in carrying if self.kept(source)}
        results = [_at_zero(node, masked, value) for value in _SAMPLES] if pointwise else []
        if name in _MAKE or (
            _stays_zero(results) if pointwise else masked == carrying and not _moves(node, name, carrying)
        ):
            return True
        self._lost.add(node)
        if writes(node.target):  # what it is a view of is no longer zero either
            self._lose(node.args[0])
        return not masked or not results or any(math.isfinite(value) for value in results) or not _all_finite(node)

    def enter(self, sources: Mapping[Node, Node]) -> None:
        """Begin a wrapped graph, whose inputs are given by `sources`."""
        self._lost |= {inner for inner, outer in sources.items() if not self.kept(outer)}

    def leave(self, node: Node, sources: Mapping[Node, Node], body: GraphModule) -> None:
        """End the graph that `node` wraps: what it returns, and what it has written to."""
        returned = body.graph.output_node().args[0]
        outputs = returned if isinstance(returned, (tuple, list)) else (returned,)
        lost = [(node, number) for number, one in enumerate(outputs) if isinstance(one, Node) and not self.kept(one)]
        self._lost |= set(lost)
        if lost and outputs is not returned:
            self._lost.add(node)
        for inner, outer in sources.items():
            if not self.kept(inner):
                self._lose(outer)

    def _lose(self, source: object) -> None:
        while isinstance(source, Node) and source not in self._lost:
            self._lost.add(source)
            source = source.args[0] if source.args else None


def _moves(node: Node, name: str, carrying: set[Node]) -> bool:
    """Tell whether an op that is not element-wise makes something else of zeros."""
    if name in ("pad", "constant_pad_nd"):
        return any(isinstance(value, (int, float)) and value != 0 for value in node.args[2:])
    return name in _CHANGE or (name in _JOIN and not carrying.issuperset(node.all_input_nodes))


def _stays_zero(results: list[float]) -> bool:
    return all(value == 0 for value in results)


def _all_finite(node: Node) -> bool:
    """Tell whether no number in the code is infinite, as a mask's filling is."""
    return all(math.isfinite(leaf) for leaf in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(leaf, float))


def _at_zero(node: Node, masked: set[Node], sample: float) -> float:
    """Run an element-wise op on single numbers: zero for what is masked, `sample` for the rest; 1 if torch does not."""

    def number(source: Node) -> object:
        value = 0.0 if source in masked else sample
        return pytree.tree_map_only(Tensor, lambda v: torch.tensor(value, dtype=v.dtype), source.meta.get("val"))

    args, kwargs = pytree.tree_map_only(Node, number, (node.args, node.kwargs))
    try:
        leaves = pytree.tree_leaves(node.target(*args, **kwargs))  # type: ignore[operator]
        results = [float(leaf) for leaf in leaves if isinstance(leaf, Tensor)]
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return 1.0
    return next((value for value in results if value != 0), 0.0)
