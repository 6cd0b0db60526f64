"""What runs along the dimensions of a weight that is computed on the way: standardised, scaled, normalised weights.

A parameter brings one part per channel dimension. Ops carry parts along; where two parts meet they are tied. Two
things decide whether a dimension can be cut: the network with zeros in place of the removed positions must compute
the same weight for the others (a sum or a norm does, a mean does not), and zero at the removed ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.walk.ids import IdSpace
from prunekit.pruning.analysis.walk.values import Computed, Part, Parts, Source, Weight


@dataclass
class Derivation:
    """Derives the parts of computed weights, each once, and ties them as it goes."""

    space: IdSpace
    rules: Mapping[str, "PartRule"]
    sources: dict[Source, Tensor] = field(default_factory=dict)
    """Ids of each parameter dimension that some part comes from."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    followers: set[Source] = field(default_factory=set)
    """Dimensions that a contraction ties to others: they are cut with them."""
    _known: dict[Node, Parts] = field(default_factory=dict)

    def of(self, value: object) -> Parts:
        """Return the parts of a weight, a computed one, or anything else, which has none."""
        if isinstance(value, Weight):
            return self._of_weight(value)
        if not isinstance(value, Computed):
            return Parts()
        if value.node not in self._known:
            self._known[value.node] = self._derive(value)
        return self._known[value.node]

    def _of_weight(self, weight: Weight) -> Parts:
        self.shapes[weight.name] = weight.shape
        # A variance is kept where a channel is removed: zero would divide by epsilon.
        vanishes = not weight.name.endswith("running_var")
        parts = []
        for dim in _channel_dims(weight.shape):
            source = (weight.name, dim)
            if source not in self.sources:
                self.sources[source] = self.space.fresh((weight.shape[dim],))
            shape = [1] * len(weight.shape)
            shape[dim] = -1
            ids = self.sources[source].reshape(shape).expand(weight.shape)
            parts.append(Part(ids, frozenset([source]), vanishes))
        return Parts(tuple(parts))

    def _derive(self, value: Computed) -> Parts:
        rule = self.rules.get(value.op)
        if rule is None and torch.Tag.pointwise in getattr(value.node.target, "tags", ()):
            rule = self.rules["pointwise"]
        found = None if rule is None else rule(self, value)
        if found is not None:
            return found
        # Everything that goes in stays as it is.
        reason = f"feeds a layer whose weight is computed by {value.op}, which the analysis does not follow"
        for leaf in pytree.tree_leaves((value.args, value.kwargs)):
            for part in self.of(leaf).parts:
                self.space.freeze(part.ids, reason)
        return Parts((), reason)

    def broadcast(self, operand: object, shape: Sequence[int]) -> list[Part]:
        """Return the parts of an operand in the shape that it is spread to."""
        parts = []
        for part in self.of(operand).parts:
            lead = [1] * (len(shape) - part.ids.dim())
            parts.append(replace(part, ids=part.ids.reshape(*lead, *part.ids.shape).expand(tuple(shape))))
        return parts


def _channel_dims(shape: tuple[int, ...]) -> list[int]:
    """Return the dimensions of a parameter that can run along channels: of a kernel the first two."""
    kernel = len(shape) > 2 and max(shape[:2]) > 1
    return [dim for dim in range(2 if kernel else len(shape)) if shape[dim] > 1]


PartRule = Callable[[Derivation, Computed], Parts | None]
"""What an op does to parts; None where it does what cannot be followed."""
