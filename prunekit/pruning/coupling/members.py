"""The members of a group: which tensors make, read and scale its units, and sums over them, unit by unit.

A unit may stand at several positions of a tensor (whole groups of a convolution, shuffled pixels), and a tensor may
hold several groups (a concat): labels say which position is whose. A tied tensor has one slot, so it counts once.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.coupling.groups import Coupling, Group, Slot, layer_of
from prunekit_runtime.spelling import option

LAYERS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
# The norms that have one scale per channel; PReLU slopes are no scale of the whole channel.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)  # pyright: ignore[reportPrivateUsage]  no public base


class Member(NamedTuple):
    """One dimension of one tensor that runs along units of a group."""

    slot: Slot
    tensor: Tensor


def makers(group: Group, coupling: Coupling, network: nn.Module) -> Iterator[Member]:
    """Yield the weights that make the units' channels: the "filters" of the literature, without biases.

    A grouped transposed convolution is cut along its input dimension, and makes what it reads.
    """
    for slot in group.slots:
        if slot.role == "out" or (slot.role == "in" and is_inside(slot, coupling)):
            yield from _weights(slot, network)


def readers(group: Group, coupling: Coupling, network: nn.Module) -> Iterator[Member]:
    """Yield the weights through which the units' channels leave the group."""
    for slot in group.slots:
        if slot.role == "in" and not is_inside(slot, coupling):
            yield from _weights(slot, network)


def scale_members(group: Group, network: nn.Module) -> list[Member]:
    """Return the scales of the norms along the group's channels; there may be none."""
    return [
        Member(slot, tensor_of(network, slot.parameter))
        for slot in group.slots
        if slot.role == "norm" and slot.parameter.endswith("weight") and isinstance(_owner(network, slot), _NORMS)
    ]


def scales(group: Group, network: nn.Module) -> list[Member]:
    """Return the scales of the norms along the group's channels.

    Raises:
        PruneError: there are none.
    """
    found = scale_members(group, network)
    if not found:
        raise PruneError(
            f"Group {group.name} has no norm with a learnt scale, which this criterion judges channels by. "
            f"Choose {option('criterion', 'l2')} or taylor, which judge every group."
        )
    return found


def is_inside(slot: Slot, coupling: Coupling) -> bool:
    """Tell whether the slot's layer is a grouped one whose inputs and outputs go together, as a depthwise one's do."""
    layer = layer_of(slot.parameter)
    return any(grouped.layer == layer for grouped in coupling.grouped)


def tensor_of(network: nn.Module, name: str) -> Tensor:
    """Return the parameter or buffer of this name."""
    module, _, leaf = name.rpartition(".")
    return cast(Tensor, getattr(network.get_submodule(module), leaf))


def kernel_overlap(layer: nn.Module) -> int:
    """Return by how much a sum over a kernel's places overcounts what one output meets: a transposed layer's stride."""
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    return math.prod(layer.stride) if transposed else 1


def weight_users(network: nn.Module) -> dict[Tensor, tuple[str, ...]]:
    """Return the convolutions and linear layers that use each weight: several where it is tied.

    Tensors compare by identity as keys.
    """
    users: dict[Tensor, tuple[str, ...]] = {}
    for name, module in network.named_modules():
        if not isinstance(module, LAYERS):
            continue
        for key, weight in module.named_parameters():
            # A parametrised weight stands for all parameters it is computed of that have its dimensions.
            if (key == "weight" or key.startswith("parametrizations.weight.")) and weight.dim() >= 2:
                users[weight] = (*users.get(weight, ()), name)
    return users


def unit_index(slot: Slot, group: Group) -> IntArray:
    """Return for each position of a slot the unit it belongs to, or -1 where it is another group's."""
    place = np.full(int(max(slot.labels.max(), group.units.max())) + 1, -1, dtype=np.int64)
    place[group.units] = np.arange(group.width)
    return place[slot.labels]


def unit_sums(values: Tensor, slot: Slot, group: Group) -> FloatArray:
    """Sum a tensor of the slot's shape over everything that belongs to a unit, in float64."""
    rows = values.detach().movedim(slot.dim, 0)
    sums = rows.reshape(len(rows), -1).sum(dim=1, dtype=torch.float64).cpu().numpy()
    return gathered(sums, slot, group)


def gathered(value_C: FloatArray, slot: Slot, group: Group) -> FloatArray:
    """Sum one value per position of a slot over the positions of each unit."""
    units = unit_index(slot, group)
    total_U = np.zeros(group.width)
    np.add.at(total_U, units[units >= 0], value_C[units >= 0])
    return total_U


def is_weight(slot: Slot) -> bool:
    """Tell whether the slot is of a layer's weight, or of what a parametrised weight is computed of."""
    return slot.parameter.endswith("weight") or ".parametrizations.weight." in slot.parameter


def _weights(slot: Slot, network: nn.Module) -> Iterator[Member]:
    tensor = tensor_of(network, slot.parameter)
    if tensor.dim() >= 2:
        yield Member(slot, tensor)


def _owner(network: nn.Module, slot: Slot) -> nn.Module:
    return network.get_submodule(layer_of(slot.parameter))
