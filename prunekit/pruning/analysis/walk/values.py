"""What stands for a value of the graph while it is walked, beside the id tensor of an activation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.fx import Node

Rule = Callable[..., object]
Source = tuple[str, int]
"""A dimension of a parameter or buffer."""


@dataclass(frozen=True)
class LayerRule:
    """A rule of an op that uses weights as weights: those reach it as they are, the values before them as ids."""

    rule: Rule
    first: int = 1
    """Position of the first weight among the arguments."""
    makes: bool = True
    """Whether the op makes channels of its own; a norm of a weight is a weight."""

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        """Run the rule."""
        return self.rule(*args, **kwargs)


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer on its way to the op that uses it."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Computed:
    """A tensor that the graph computes of weights alone. What it means is asked where it is used.

    A layer asks which dimensions of which parameters run along its own (`Part`); everything else asks for ids.
    """

    node: Node
    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]
    finite: bool = True
    """Whether the op makes a number of it where the weights are zero."""


@dataclass(frozen=True, eq=False)
class Part:
    """What runs along one dimension of a computed weight: positions of parameters that can only be cut together."""

    ids: Tensor
    """Of the weight's shape; they vary along the dimension."""
    sources: frozenset[Source]
    vanishes: bool
    """Whether the weight is zero at a position where those parameters are."""


@dataclass(frozen=True)
class Parts:
    """A computed weight as layers see it; dimensions that no part runs along cannot be cut."""

    parts: tuple[Part, ...] = ()
    stuck: str = field(default="feeds a layer whose weight is computed on the way")
    """Why a dimension without a part stays."""


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


@dataclass(frozen=True)
class RawGroups:
    """A layer with groups whose ids are not resolved to labels yet."""

    layer: str
    groups: int
    ids: Tensor
