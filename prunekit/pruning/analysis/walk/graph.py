"""Reading an exported graph: names of ops, what an op is given, when a value is last needed."""

from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.walk.ids import is_nothing, nothing, sizes
from prunekit.pruning.analysis.walk.values import Computed, LayerRule, Rule, Weight


def op_name(node: Node) -> str:
    """Return "conv2d" for aten.conv2d.default, "relu" for aten.relu_.default."""
    packet = getattr(node.target, "overloadpacket", None)
    name = str(packet).rpartition(".")[2] if packet is not None else str(node.target)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def carries(value: object) -> bool:
    """Tell whether ids of channels are among some values."""
    return any(isinstance(leaf, Tensor) and not is_nothing(leaf) for leaf in pytree.tree_leaves(value))


def is_weight(value: object) -> bool:
    """Tell whether weights, or what is computed of them alone, are among some values."""
    return any(isinstance(leaf, (Weight, Computed)) for leaf in pytree.tree_leaves(value))


def is_layer(rule: Rule | None, args: tuple[Any, ...]) -> bool:
    """Tell whether an op makes channels of weights, or norms features by them."""
    return isinstance(rule, LayerRule) and (rule.makes or not isinstance(args[0], (Weight, Computed)))


def computed(node: Node, name: str, args: Any, kwargs: Any, *, finite: bool = True) -> Computed | None:
    """Put an op on weights alone off until its result is used."""
    tensors = [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
    if not tensors:
        return None  # an assertion makes nothing
    return Computed(node, name, tuple(args), dict(kwargs), sizes(tensors[0]), finite)


def none_like(node: Node) -> object:
    """Return values without channels in the shapes of an op's results."""
    return pytree.tree_map_only(Tensor, lambda v: nothing(sizes(v)), node.meta.get("val"))


def last_uses(nodes: list[Node]) -> dict[Node, list[Node]]:
    """Return for each node the values that nobody needs after it."""
    last: dict[Node, Node] = {}
    for node in nodes:
        for needed in node.all_input_nodes:
            last[needed] = node
    table: dict[Node, list[Node]] = {}
    for needed, node in last.items():
        table.setdefault(node, []).append(needed)
    return table
