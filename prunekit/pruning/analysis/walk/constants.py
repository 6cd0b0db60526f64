"""What a network's code makes by itself: constants that differ from place to place, and random numbers.

Both are made for as many channels as there are, so that shapes tell nothing when a channel goes: `arange(x.shape[1])`
counts anew. Constants are computed for real, views and writes in place included, and only their variation is kept.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.walk.arguments import bound
from prunekit.pruning.analysis.walk.ids import IdSpace, fixed, is_known, nothing

_VARIES = "meets numbers that the network's code makes by position, one a channel"
_MAX_ELEMENTS = 1 << 22
_MAX_IDS = 1 << 16


class Constants:
    """Values of the nodes that depend on nothing but the code."""

    def __init__(self) -> None:
        self._values: dict[Node, Any] = {}
        self._ids: dict[Node, tuple[int, Tensor]] = {}

    def __contains__(self, node: Node) -> bool:
        return node in self._values

    def lift(self, program: ExportedProgram) -> None:
        """Take the tensors that stand in the code itself."""
        lifted = program.graph_signature.inputs_to_lifted_tensor_constants
        for node in program.graph.find_nodes(op="placeholder"):
            value = program.constants.get(lifted.get(node.name, ""))
            if isinstance(value, Tensor) and value.device.type != "meta":
                self._values[node] = value.detach().clone()

    def evaluate(self, node: Node) -> bool:
        """Compute a node whose inputs are constants; tell whether it is one itself."""
        if is_random(node) or not all(source in self._values for source in node.all_input_nodes) or not _small(node):
            return False
        target: Any = node.target
        if target is not operator.getitem and not hasattr(target, "_schema"):  # a higher-order op
            return False
        args, kwargs = pytree.tree_map_only(Node, lambda n: self._values[n], (node.args, node.kwargs))
        try:
            self._values[node] = target(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            return False
        return True

    def lend(self, sources: Mapping[Node, Node]) -> None:
        """Make the inputs of a wrapped graph, by which `sources` are given, the constants that those are."""
        self._values |= {inner: self._values[outer] for inner, outer in sources.items() if outer in self._values}

    def ids(self, node: Node, space: IdSpace) -> object:
        """Return what stands for the values of `node` as they are now: nothing where they are alike."""
        value = self._values[node]
        if not isinstance(value, Tensor):
            return pytree.tree_map_only(Tensor, lambda v: _ids(v, space), value)
        known = self._ids.get(node)
        if known is None or known[0] != value._version:
            self._ids[node] = known = (value._version, _ids(value, space))
        return known[1]

    def forget(self, node: Node) -> None:
        """Drop what nobody reads any more."""
        self._values.pop(node, None)
        self._ids.pop(node, None)


def is_random(node: Node) -> bool:
    """Tell whether an op draws random numbers; a dropout that is switched off draws none."""
    target = node.target
    if torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ()):
        return False
    named = bound(target, node.args, node.kwargs)
    switches = [named[name] for name in ("train", "training") if name in named]
    return all(switch is not False for switch in switches) and named.get("dropout_p") != 0


def _ids(value: Tensor, space: IdSpace) -> Tensor:
    lengths = [
        n if n > 1 and not torch.equal(value.narrow(d, 0, n - 1), value.narrow(d, 1, n - 1)) else 1
        for d, n in enumerate(value.shape)
    ]
    count = torch.Size(lengths).numel()
    if count == 1 or value.numel() == 0:
        return nothing(value.shape)
    return space.constant(lengths, _VARIES).expand(value.shape) if count <= _MAX_IDS else fixed(value.shape)


def _small(node: Node) -> bool:
    leaves = [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
    return all(is_known(leaf) for leaf in leaves) and sum(leaf.numel() for leaf in leaves) <= _MAX_ELEMENTS
