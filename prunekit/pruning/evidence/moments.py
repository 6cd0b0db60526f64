"""Moments of a group's channels where one layer reads or makes them, summed over sampled places."""

import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Group, Slot, unit_index, weight_users

POSITIONS = 1024
STRIPS = 4
STRIPS_FROM = 512  # channels; below, a product is too short for its strips to pay


@dataclass(frozen=True)
class Moments:
    """Sums over the sampled places of one group's channels at one layer. Float64, on the CPU."""

    group: str
    slot: Slot
    """The weight dimension that meets these channels."""
    layer: str
    """Name of the module: one of several where they share the slot's weight."""
    at: str
    """"input" of a consumer, or "output" of a producer."""
    index_MU: Tensor
    """Channels of each unit at this layer, int64; -1 where a unit has fewer than others. M is 1 but for whole groups of
    a convolution or norm, flattened maps and grouped readers; then the m-th channels are like further places."""
    places: int
    """Number of vectors that were summed: places times M."""
    sum_U: Tensor
    moment_UU: Tensor
    """Sum of the outer products x x^T."""


class Sample(NamedTuple):
    """What one pass left at one tensor: branches that read the same one share it."""

    features: "weakref.ref[Tensor]"
    version: int
    index_MU: Tensor
    places: int
    sum_U: Tensor
    moment_UU: Tensor

    def is_of(self, features: Tensor, index_MU: Tensor) -> bool:
        """Tell whether it is what these features gave, unchanged since."""
        # Tensors of inference mode do not count how often they were written to.
        same = self.features() is features and not features.is_inference() and self.version == features._version
        return same and torch.equal(self.index_MU, index_MU)


@dataclass
class Tap:
    """One place to measure, and its running sums on the network's device."""

    group: str
    slot: Slot
    layer: str
    at: str
    index_MU: Tensor
    generator: torch.Generator
    places: int = 0
    sum_U: Tensor | None = None
    moment_UU: Tensor | None = None

    def sample(self, features: Tensor, channel_dim: int) -> Sample:
        """Return the moments of `POSITIONS` vectors from random places, the same ones in every image of the batch."""
        x_BCN = (
            features.detach().movedim(channel_dim, 1).flatten(2) if features.dim() > 2 else features.detach()[..., None]
        )
        places = max(1, POSITIONS // (len(x_BCN) * len(self.index_MU)))
        if x_BCN.shape[2] > places:
            x_BCN = at_places(x_BCN, torch.randint(x_BCN.shape[2], (places,), generator=self.generator))
        with torch.autocast(x_BCN.device.type, enabled=False):
            x_UN = _units(x_BCN.float().transpose(0, 1).flatten(1), self.index_MU.to(x_BCN.device))
            moment_UU, sum_U = _gram(x_UN), x_UN.sum(dim=1)
        version = 0 if features.is_inference() else features._version
        return Sample(weakref.ref(features), version, self.index_MU, x_UN.shape[1], sum_U, moment_UU)

    def add(self, sample: Sample) -> None:
        """Add what one pass left."""
        self.places += sample.places
        self.moment_UU = sample.moment_UU.clone() if self.moment_UU is None else self.moment_UU.add_(sample.moment_UU)
        self.sum_U = sample.sum_U.clone() if self.sum_U is None else self.sum_U.add_(sample.sum_U)

    def moments(self) -> Moments | None:
        """Return the sums over all passes and ranks; None where nothing was seen.

        Raises:
            PruneError: they are not finite.
        """
        if self.moment_UU is None or self.sum_U is None:
            return None
        places, sum_U, moment_UU = _summed_over_ranks(self.places, self.sum_U, self.moment_UU)
        sum_U, moment_UU = sum_U.double().cpu(), moment_UU.double().cpu()
        if not moment_UU.isfinite().all():
            raise PruneError(
                f"What layer {self.layer} {'reads' if self.at == 'input' else 'makes'} is not finite, so its channels "
                "cannot be compared. Check the network's weights and the images."
            )
        return Moments(self.group, self.slot, self.layer, self.at, self.index_MU, places, sum_U, moment_UU)


def at_places(x_BCN: Tensor, places_P: Tensor) -> Tensor:
    """Return x at some places, [B, C, P], gathered from a matrix: faster on a CPU than along a third dimension."""
    batch, channels, _ = x_BCN.shape
    places_P = places_P.to(x_BCN.device)
    if x_BCN.stride(1) == 1:  # channels last: a place is a row
        rows_BP = torch.arange(batch, device=x_BCN.device)[:, None] * x_BCN.shape[2] + places_P
        x_MC = x_BCN.transpose(1, 2).reshape(-1, channels).index_select(0, rows_BP.flatten())
        return x_MC.unflatten(0, (batch, -1)).transpose(1, 2)
    return x_BCN.reshape(batch * channels, -1).index_select(1, places_P).unflatten(0, (batch, channels))


def _units(x_CN: Tensor, index_MU: Tensor) -> Tensor:
    """Return [U, M N]: the channels of each unit side by side, zero where a unit has fewer than others."""
    if len(index_MU) == 1:
        return x_CN.index_select(0, index_MU[0])
    x_UMN = x_CN[index_MU.T.clamp_min(0)]
    return x_UMN.masked_fill_((index_MU.T < 0)[..., None], 0.0).flatten(1)


def _gram(x_UN: Tensor) -> Tensor:
    """Return x x^T: strips of the lower triangle, mirrored; 5/8 of the arithmetic of a plain product."""
    units = len(x_UN)
    if units < STRIPS_FROM:
        return x_UN @ x_UN.T
    gram_UU = x_UN.new_empty(units, units)
    step = -(-units // STRIPS)
    for start in range(0, units, step):
        stop = min(start + step, units)
        gram_UU[start:stop, :stop] = x_UN[start:stop] @ x_UN[:stop].T
        gram_UU[:start, start:stop] = gram_UU[start:stop, :start].T
    return gram_UU


def _summed_over_ranks(places: int, sum_U: Tensor, moment_UU: Tensor) -> tuple[int, Tensor, Tensor]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return places, sum_U, moment_UU
    count, sum_U, moment_UU = torch.tensor([places], device=sum_U.device), sum_U.clone(), moment_UU.clone()
    for tensor in (count, sum_U, moment_UU):
        distributed.all_reduce(tensor)
    return int(count), sum_U, moment_UU


def find_taps(group: Group, network: nn.Module, seed: int) -> list[Tap]:
    """Return the places where a group can be measured: its readers' inputs, its makers' outputs."""
    users, tensors = weight_users(network), dict(network.named_parameters(remove_duplicate=False))
    return [
        Tap(group.name, slot, layer, at, index_MU, torch.Generator().manual_seed(seed))
        for role, at in (("in", "input"), ("out", "output"))
        for slot in group.slots
        if slot.role == role
        if slot.parameter in tensors
        for layer in users.get(tensors[slot.parameter], ())
        if (index_MU := _positions(slot, group, network.get_submodule(layer))) is not None
    ]


def _positions(slot: Slot, group: Group, layer: nn.Module) -> Tensor | None:
    """Find the channels of each unit at a layer; a slot that lacks some units cannot measure the group."""
    unit_C = unit_index(slot, group)
    # The weight of a grouped convolution names the channels of one group; its map holds them once a group.
    unit_C = np.tile(np.where(unit_C < 0, group.width, unit_C), _channels(layer, slot.role) // len(unit_C))
    counts_U = np.bincount(unit_C, minlength=group.width + 1)[:-1]
    if not counts_U.all():
        return None
    index_MU = np.full((counts_U.max(), group.width), -1, dtype=np.int64)
    by_unit = np.argsort(unit_C, kind="stable")
    for unit, last in enumerate(np.cumsum(counts_U)):
        index_MU[: counts_U[unit], unit] = by_unit[last - counts_U[unit] : last]
    return torch.from_numpy(index_MU)


def _channels(layer: nn.Module, role: str) -> int:
    """Return how many channels a layer reads or makes."""
    linear = isinstance(layer, nn.Linear)
    names = ("in_features", "out_features") if linear else ("in_channels", "out_channels")
    return int(getattr(layer, names[role == "out"]))
