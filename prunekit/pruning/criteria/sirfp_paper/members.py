"""Which batch norms judge which channels: the members of each coupling group.

Shapes: C channels of one batch norm, U units of one group.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Coupling, Group, Slot
from prunekit_runtime.spelling import option

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

ENCODER_PATTERN = r"(^|\.)(backbone|encoder|stem|(stage|layer)\d+)(\.|$)"
"""Names of the encoder's layers. The official networks call it `backbone` (sirfp.md 1.2 e); the rest is our reading."""


@dataclass(frozen=True)
class NormLayer:
    """The channels of one batch norm that may be pruned."""

    name: str
    encoder: bool
    """In the encoder; the rest of the network is the other part of the threshold (sirfp.md 1.2 e)."""
    index_C: IntArray
    """Positions in the batch norm."""
    labels_C: IntArray
    """Label of the channel at each of these positions."""


@dataclass(frozen=True)
class Members:
    """The batch norms that are measured, and the groups that their scores may cut."""

    layers: tuple[NormLayer, ...]
    groups: tuple[Group, ...]
    """Free groups with a measured batch norm and none that is never pruned; every other group stays whole."""

    def seen(self, names: Collection[str]) -> "Members":
        """Return the members once only the batch norms called `names` were seen; groups of the others stay whole."""
        lost = [layer.labels_C for layer in self.layers if layer.name not in names]
        held = np.unique(np.concatenate(lost)) if lost else np.empty(0, dtype=np.int64)
        layers = tuple(layer for layer in self.layers if layer.name in names)
        return Members(layers, tuple(group for group in self.groups if not np.isin(group.units, held).any()))


def find_members(
    network: nn.Module, coupling: Coupling, *, encoder: str = ENCODER_PATTERN, never: Collection[str] = ()
) -> Members:
    """Find the batch norms of every free group through the slots of the analysis.

    A group without one stays whole: the official code prunes what it has hooked, and it hooks batch norms only
    (sirfp.md 1.2 a). A batch norm after a depthwise or grouped convolution has no say where the group has another,
    since such convolutions follow their parent (1.2 f).

    Args:
        network: the network that was analysed.
        coupling: its analysis.
        encoder: pattern searched in names; what it finds is the encoder. Where it finds nothing, all is encoder.
        never: names of batch norms that are never pruned; by the union the whole group of such a one stays. The
            official code lists backbone.layer4.2.bn3, aspp.bn1, decoder.bn1 and the auxiliary head's (1.2 f); ours
            needs none by default, since the analysis freezes what cannot be cut.

    Raises:
        PruneError: a name in `never` is no batch norm of the network, or no free group has a batch norm.
    """
    slots = _norm_slots(network, coupling)
    _check_names(never, slots)
    owner = _group_of_label(coupling)
    judges = _judges(coupling, slots, owner)
    found = any(re.search(encoder, name) for name in judges)
    layers = [
        _layer(name, slots[name], owner, not found or re.search(encoder, name) is not None)
        for name in judges
        if name not in never
    ]
    held = {group for name in never for group in _groups_at(slots[name], owner)}
    measured = {group for layer in layers for group in owner[layer.labels_C].tolist()}
    groups = tuple(group for number, group in enumerate(coupling.free) if number in measured - held)
    if not groups:
        raise PruneError(
            "sirfp-paper scores the outputs of batch norms, and no channel that can be removed passes through one. "
            f"Choose {option('criterion', 'sirfp')}, which measures what the consumers see."
        )
    return Members(tuple(layers), groups)


def _check_names(never: Collection[str], slots: Mapping[str, Slot]) -> None:
    for name in never:
        if name not in slots:
            raise PruneError(f"No batch norm is called {name}. Known: {', '.join(slots)}.")


def _layer(name: str, slot: Slot, owner: IntArray, encoder: bool) -> NormLayer:
    index_C = (owner[slot.labels] >= 0).nonzero()[0]
    return NormLayer(name, encoder, index_C, slot.labels[index_C])


def norm_name(slot: Slot) -> str:
    """Return the name of the module that a slot's parameter belongs to."""
    return slot.parameter.rpartition(".")[0]


def _norm_slots(network: nn.Module, coupling: Coupling) -> dict[str, Slot]:
    """Return one slot of each batch norm, by its name, in the order of execution."""
    modules = dict(network.named_modules(remove_duplicate=False))
    found: dict[str, Slot] = {}
    for slot in coupling.slots:
        if slot.role == "norm" and isinstance(modules.get(norm_name(slot)), BATCH_NORMS):
            found.setdefault(norm_name(slot), slot)
    return found


def _group_of_label(coupling: Coupling) -> IntArray:
    """Return the number of the free group that each label belongs to, or -1."""
    owner = np.full(coupling.label_count, -1, dtype=np.int64)
    for number, group in enumerate(coupling.free):
        owner[group.units] = number
    return owner


def _groups_at(slot: Slot, owner: IntArray) -> set[int]:
    return {int(number) for number in owner[slot.labels] if number >= 0}


def _judges(coupling: Coupling, slots: Mapping[str, Slot], owner: IntArray) -> list[str]:
    """Return the batch norms with a say: those that follow their parent only where a group has no other."""
    followers = set(following_norms(coupling, slots))
    parents = {group for name, slot in slots.items() if name not in followers for group in _groups_at(slot, owner)}
    return [
        name
        for name, slot in slots.items()
        if (groups := _groups_at(slot, owner)) and (name not in followers or groups - parents)
    ]


def following_norms(coupling: Coupling, slots: Mapping[str, Slot]) -> Iterator[str]:
    """Yield the names of batch norms that come after a convolution whose whole groups go with its inputs."""
    tied = {layer.layer for layer in coupling.grouped}
    for name, slot in slots.items():
        if _producer(coupling.slots, slot) in tied:
            yield name


def _producer(slots: Sequence[Slot], norm: Slot) -> str | None:
    """Return the last layer before `norm` that makes exactly its channels."""
    producer: str | None = None
    for slot in slots:
        if slot is norm:
            return producer
        if slot.role == "out" and slot.parameter.endswith("weight") and np.array_equal(slot.labels, norm.labels):
            producer = norm_name(slot)
    return producer


@dataclass(frozen=True)
class Carriers:
    """For each group, the batch norms whose outputs add up to what its consumers see."""

    slots: Mapping[str, tuple[Slot, ...]]

    @classmethod
    def of(cls, network: nn.Module, coupling: Coupling) -> "Carriers":
        """Collect them in the order of execution.

        A residual stream is the sum of all members (sirfp.md 1.2 g). After a depthwise convolution only what it wrote
        is left of what came before (our reading: the official networks have none).
        """
        every = _norm_slots(network, coupling)
        followers = set(following_norms(coupling, every))
        found: dict[str, tuple[Slot, ...]] = {}
        for group in coupling.free:
            carried: list[Slot] = []
            for name, slot in every.items():
                if np.isin(slot.labels, group.units).any():
                    carried = [slot] if name in followers else [*carried, slot]
            found[group.name] = tuple(carried)
        return cls(found)
