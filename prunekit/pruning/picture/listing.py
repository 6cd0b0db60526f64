"""What a coupling says to a person: groups, their members, what they cost, and why some must stay.

G groups; a carried cost counts a product or a parameter once for every group that it touches, so that the shares of
all groups add up to more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import nn

from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Coupling, Group, Slot, layer_of

ROLES: Final = {"out": "makes", "in": "reads", "norm": "scales", "data": "meets"}
"""What a member does with the channels of its group, by the role of its slot."""
PASSES: Final = "passes"
"""A grouped convolution (a depthwise one, mostly) reads channels and makes as many groups of new ones of them."""


@dataclass(frozen=True)
class MemberRow:
    """One layer of a group, or one learnt tensor that is no layer."""

    layer: str
    """Name of the module, or of the parameter where it is used as a tensor."""
    kind: str
    """Class of the module; "Parameter" for a learnt tensor."""
    does: str
    """"makes" the channels, "passes" them on, "reads", "scales" or "meets" (a learnt tensor) them."""
    channels: int
    """Positions of its channel dimension that belong to the group."""
    width: int
    """Length of that dimension."""


@dataclass(frozen=True)
class GroupRow:
    """One group: its channels can be removed, or must stay, unit by unit."""

    number: int
    """From 1, in the order of execution."""
    name: str
    width: int
    """Number of units."""
    channels_per_unit: int
    frozen: str | None
    """Why no unit may be removed, or None."""
    members: tuple[MemberRow, ...]
    macs: int
    """MACs carried: multiply-accumulates, of the whole example input, in which a channel of the group takes part,
    made or read. Removing every unit would save exactly these."""
    macs_share: float
    """`macs` by those of the network."""
    params: int
    """Parameters carried: the entries of parameters that lie at a position of the group in some dimension."""
    params_share: float
    """`params` by those of the network."""


@dataclass(frozen=True)
class Inspection:
    """A whole network."""

    macs: int
    """Of the whole example input."""
    params: int
    channels: int
    """Units of all groups."""
    channels_frozen: int
    groups: tuple[GroupRow, ...]
    unseen: tuple[str, ...]
    """Parameters that no graph uses; they stay as they are."""


def inspection(coupling: Coupling, network: nn.Module) -> Inspection:
    """Describe `coupling`, the analysis of `network`."""
    macs_G, params_G = carried_macs(coupling), carried_params(coupling)
    macs, params = coupling.macs(), coupling.params()
    rows = tuple(
        GroupRow(
            number=index + 1,
            name=group.name,
            width=group.width,
            channels_per_unit=group.channels_per_unit,
            frozen=group.frozen,
            members=_members(group, coupling, network),
            macs=int(macs_G[index]),
            macs_share=int(macs_G[index]) / max(1, macs),
            params=int(params_G[index]),
            params_share=int(params_G[index]) / max(1, params),
        )
        for index, group in enumerate(coupling.groups)
    )
    frozen = sum(row.width for row in rows if row.frozen is not None)
    return Inspection(macs, params, sum(row.width for row in rows), frozen, rows, coupling.unseen)


def carried_macs(coupling: Coupling) -> IntArray:
    """Return macs_G: for each group the multiply-accumulates that a channel of it takes part in.

    An operation costs its positions times the lengths of its channel dimensions; what is left without the group is the
    same with the group's channels taken out of each length, and the difference is what the group carries.
    """
    owner = _owner(coupling)
    total_G = np.zeros(len(coupling.groups), dtype=np.int64)
    for cost in coupling.costs:
        total_G += cost.positions * _touched(cost.dims, owner, len(total_G))
    return total_G


def carried_params(coupling: Coupling) -> IntArray:
    """Return params_G: for each group the parameter entries that lie at one of its positions; tied ones count once."""
    owner = _owner(coupling)
    total_G = np.zeros(len(coupling.groups), dtype=np.int64)
    slots: dict[str, list[Slot]] = {}
    for slot in coupling.slots:
        slots.setdefault(slot.parameter, []).append(slot)
    for name, shape in coupling.shapes.items():
        own = slots.get(name, [])
        others = int(np.prod([length for dim, length in enumerate(shape) if dim not in {slot.dim for slot in own}]))
        total_G += others * _touched([slot.labels for slot in own], owner, len(total_G))
    return total_G


def _owner(coupling: Coupling) -> IntArray:
    """Return the index of the group that each label belongs to; -1 for none."""
    owner = np.full(coupling.label_count, -1, dtype=np.int64)
    for index, group in enumerate(coupling.groups):
        owner[group.units] = index
    return owner


def _touched(dims: Sequence[IntArray], owner: IntArray, groups: int) -> IntArray:
    """Return for each group how many cells of the grid spanned by `dims` lie at one of its positions."""
    full, left_G = 1, np.ones(groups, dtype=np.int64)
    for labels in dims:
        full *= len(labels)
        left_G *= len(labels) - np.bincount(owner[labels] + 1, minlength=groups + 1)[1:]
    return full - left_G


def _members(group: Group, coupling: Coupling, network: nn.Module) -> tuple[MemberRow, ...]:
    """Return one row per layer and role, weights before the biases that repeat them."""
    grouped = {g.layer for g in coupling.grouped if np.isin(g.labels, group.units).any()}
    rows: dict[tuple[str, str], MemberRow] = {}
    for slot in group.slots:
        layer, kind = _layer(slot, network)
        does = PASSES if slot.role == "out" and layer in grouped else ROLES[slot.role]
        channels = int(np.isin(slot.labels, group.units).sum())
        rows.setdefault((layer, does), MemberRow(layer, kind, does, channels, len(slot.labels)))
    return tuple(rows.values())


def _layer(slot: Slot, network: nn.Module) -> tuple[str, str]:
    owner = layer_of(slot.parameter)
    if slot.role == "data" or not owner:
        return slot.parameter, "Parameter"
    return owner, type(network.get_submodule(owner)).__name__
