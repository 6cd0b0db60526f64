"""What the coupling analysis finds: slots, groups, costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prunekit.pruning.arrays import IntArray

Flags = npt.NDArray[np.bool_]


def layer_of(parameter: str) -> str:
    """Return the name of the module that a parameter belongs to; of a parametrised weight, the layer that uses it."""
    owner = parameter.rpartition(".")[0]
    head, found, _ = f".{owner}".rpartition(".parametrizations.")
    return head[1:] if found else owner


@dataclass(frozen=True)
class Slot:
    """One dimension of one parameter or buffer, and the channel that each of its indices belongs to."""

    parameter: str
    dim: int
    role: str
    """"out" makes the channel, "in" consumes it, "norm" scales it, "data" is a learnt tensor that meets it."""
    labels: IntArray
    """Label of the channel at each index."""


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one operation: `positions` times the lengths of the channel dimensions."""

    layer: str
    positions: int
    dims: tuple[IntArray, ...]
    """Labels along each channel dimension that multiplies the cost."""

    def macs(self, removed: Flags) -> int:
        """Return the MACs for one image once the channels flagged in `removed`, indexed by label, are gone."""
        total = self.positions
        for labels in self.dims:
            total *= int(np.count_nonzero(~removed[labels]))
        return total


@dataclass(frozen=True)
class Group:
    """Coupled layers of one width: unit u is the set of channel positions that can only be removed together."""

    name: str
    units: IntArray
    """Label of each unit, in the order of the first producing layer's channels."""
    slots: tuple[Slot, ...]
    frozen: str | None = None
    """Why no unit may be removed, or None."""

    @property
    def width(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def channels_per_unit(self) -> int:
        """Channels of the first producing layer that one unit takes along: 1, or the width of a convolution's group."""
        first = next(slot for slot in self.slots if slot.role == "out")
        return int(np.isin(first.labels, self.units).sum()) // self.width

    def layers(self, role: str) -> tuple[str, ...]:
        """Names of the modules whose parameters play `role` here, in the order of execution."""
        names = (layer_of(slot.parameter) for slot in self.slots if slot.role == role)
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class GroupedLayer:
    """A convolution or norm with groups: labels of its input channels, to count the groups that remain."""

    layer: str
    groups: int
    labels: IntArray
    stored: bool = True
    """Whether the module keeps the number, so that a cut must set it; otherwise the user's code computes it."""

    def remaining(self, removed: Flags) -> int:
        """Return how many groups keep an input channel."""
        kept = ~removed[self.labels.reshape(self.groups, -1)]
        return int(kept.any(axis=1).sum())


@dataclass(frozen=True)
class Coupling:
    """The channel groups of a network, what each covers and costs."""

    groups: tuple[Group, ...]
    slots: tuple[Slot, ...]
    costs: tuple[Cost, ...]
    grouped: tuple[GroupedLayer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every parameter."""
    label_count: int
    unseen: tuple[str, ...] = ()
    """Parameters that no graph uses; they stay as they are."""
    assumptions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Ops that rely on sizes the user's code computes (views, splits), and the labels they touch."""

    @property
    def free(self) -> tuple[Group, ...]:
        """The groups that may be pruned."""
        return tuple(group for group in self.groups if group.frozen is None)

    def runs(self, group: Group) -> bool:
        """Tell whether the network uses the group outside training: that of an auxiliary head it may not."""
        return any(np.isin(labels, group.units).any() for cost in self.costs for labels in cost.dims)

    def removed(self, keep: Mapping[str, Sequence[int]]) -> Flags:
        """Return a flag per label: gone, given the kept unit positions of each group by name."""
        flags = np.zeros(self.label_count, dtype=bool)
        for group in self.free:
            if group.name in keep:
                flags[group.units] = True
                flags[group.units[np.asarray(keep[group.name], dtype=np.int64)]] = False
        return flags

    def macs(self, keep: Mapping[str, Sequence[int]] | None = None) -> int:
        """Return multiply-accumulates of the whole example input, after the removal if `keep` is given."""
        removed = self.removed(keep or {})
        return sum(cost.macs(removed) for cost in self.costs)

    def layer_macs(self, keep: Mapping[str, Sequence[int]] | None = None) -> dict[str, int]:
        """Return MACs by layer name."""
        removed = self.removed(keep or {})
        table: dict[str, int] = {}
        for cost in self.costs:
            table[cost.layer] = table.get(cost.layer, 0) + cost.macs(removed)
        return table

    def params(self, keep: Mapping[str, Sequence[int]] | None = None) -> int:
        """Return the number of parameters, after the removal if `keep` is given."""
        removed = self.removed(keep or {})
        lengths = {name: list(shape) for name, shape in self.shapes.items()}
        for slot in self.slots:
            if slot.parameter in lengths:
                lengths[slot.parameter][slot.dim] = int(np.count_nonzero(~removed[slot.labels]))
        return sum(int(np.prod(shape)) for shape in lengths.values())
