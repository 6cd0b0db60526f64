"""Sparsity while training: pulls that make removable channels small before they are cut.

A regulariser adds to the gradients after the backward pass, and after clipping, so that its strength is the one that
was asked for. With SGD that is the published form of each. AdamW divides a pull by the running size of the whole
gradient: there, the scales that the loss no longer moves fall fastest.

Shapes: C channels of a parameter's dimension, U units of a group, N all scales that are pulled.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import ConfigError
from prunekit.pruning.coupling import Coupling, Flags, Group, Slot
from prunekit.recipe import TrainConfig

GROUP_STEEPNESS: Final = 4.0
"""DepGraph pulls the weakest unit of a group 2^4 times as hard as the strongest (sirfp.md 5)."""
POLARISED: Final = (0.0, 1.0)
"""The range that polarisation keeps scales in: a = 1 in the paper's [0, a]."""

Keep = Mapping[str, Sequence[int]]
"""Kept unit positions of each group, by group name."""

_T = TypeVar("_T")


class Regulariser(Protocol):
    """Pulls on parameters during training."""

    @property
    def identity(self) -> str:
        """A hash of what it pulls on: a resumed training must bring the same."""
        ...

    def apply(self, network: nn.Module) -> None:
        """Add to the gradients, unscaled and clipped already; called right before the optimiser's step."""
        ...

    def project(self, network: nn.Module) -> None:
        """Bring parameters back into their range; called right after the optimiser's step."""
        ...


class ScalePull:
    """L1 on the scales of norms: gradient += weight * sign(scale), for the channels in the masks.

    On all channels it is network slimming (Liu et al. 2017, arXiv 1708.06519), on those that a plan is going to
    remove MaskSparsity (Jiang et al. 2022), which leaves the scales of what stays alone.
    """

    def __init__(self, masks: Mapping[str, Tensor], weight: float) -> None:
        self._masks = dict(masks)
        self.weight = weight

    @property
    def identity(self) -> str:
        """A hash of the masks."""
        return _identity("scales", self._masks)

    def apply(self, network: nn.Module) -> None:
        """Pull the masked scales towards 0."""
        for scale, gradient_C, mask_C in _pulled(network, self._masks):
            gradient_C.add_(scale.detach().sign() * mask_C, alpha=self.weight)

    def project(self, network: nn.Module) -> None:
        """Do nothing: scales have no range."""


class Polarisation:
    """Pulls some scales to 0 and leaves the others: weight * (t |g|_1 - |g - mean(g)|_1), g in [0, 1].

    Zhuang et al. 2020 (NeurIPS, eq. 2), with the mean over all scales of the network. The exact gradient, the mean's
    own included: t sign(g_i) - sign(g_i - mean) + mean_j sign(g_j - mean).
    """

    def __init__(self, masks: Mapping[str, Tensor], weight: float, t: float) -> None:
        self._masks = dict(masks)
        self.weight, self.t = weight, t

    @property
    def identity(self) -> str:
        """A hash of the masks."""
        return _identity("polarisation", self._masks)

    def apply(self, network: nn.Module) -> None:
        """Push the scales apart."""
        pulled = _pulled(network, self._masks)
        if not pulled:
            return
        scale_N = torch.cat([scale.detach() for scale, _, _ in pulled])
        mask_N = torch.cat([mask_C for _, _, mask_C in pulled])
        count = mask_N.sum()
        side_N = (scale_N - (scale_N * mask_N).sum() / count).sign()
        pull_N = mask_N * (self.t * scale_N.sign() - side_N + (side_N * mask_N).sum() / count)
        parts = pull_N.split([len(scale) for scale, _, _ in pulled])
        for (_, gradient_C, _), pull_C in zip(pulled, parts, strict=True):
            gradient_C.add_(pull_C, alpha=self.weight)

    def project(self, network: nn.Module) -> None:
        """Clamp the scales to [0, 1]."""
        with torch.no_grad():
            for scale, _, mask_C in _pulled(network, self._masks):
                scale.copy_(torch.where(mask_C > 0, scale.clamp(*POLARISED), scale))


@dataclass(frozen=True, eq=False)
class _Member:
    """A parameter of a group, and the unit that each index of its dimension belongs to; U where it is another's."""

    parameter: str
    dim: int
    unit_C: Tensor


class GroupPull:
    """DepGraph's regulariser: all weights of a unit shrink together, those of weak units harder.

    gradient += weight * 2^(4 (Imax - I_u) / (Imax - Imin)) * w for every weight w of unit u, where I_u is the root of
    the sum of squares over all members of the group: producers, norm scales and consumers (Fang et al. 2023, arXiv
    2301.12900; the exponent by a reading of its released code, sirfp.md 5). Biases are no members.
    """

    def __init__(self, network: nn.Module, coupling: Coupling, weight: float) -> None:
        self.weight = weight
        names, scales = _canonical(network), norm_scales(network)
        groups = ((group.width, _members(group, names, scales)) for group in coupling.free)
        self._groups = [(width, members) for width, members in groups if members]
        if not self._groups:
            raise ConfigError("No channel of this network can be removed, so train.sparsity group has no use; drop it.")

    @property
    def identity(self) -> str:
        """A hash of the groups."""
        members = {
            f"{number}/{member.parameter}/{member.dim}": member.unit_C
            for number, (_, group) in enumerate(self._groups)
            for member in group
        }
        return _identity("group", members)

    def apply(self, network: nn.Module) -> None:
        """Pull each unit by its strength in its group."""
        parameters = dict(network.named_parameters())
        for width, members in self._groups:
            factor_U = self.weight * _factors(_norms(parameters, members, width))
            factor_V = torch.cat([factor_U, factor_U.new_zeros(1)])  # V = U + 1: other groups' indices get 0
            for member in members:
                weight = parameters[member.parameter]
                if weight.grad is None:
                    continue  # took no part in this step
                factor_C = factor_V[member.unit_C.to(weight.device)].to(weight.dtype)
                shape = [-1 if dim == member.dim else 1 for dim in range(weight.ndim)]
                weight.grad.add_(weight.detach() * factor_C.view(shape))

    def project(self, network: nn.Module) -> None:
        """Do nothing: weights have no range."""


def make_regulariser(
    network: nn.Module, config: TrainConfig, *, coupling: Coupling | None = None, keep: Keep | None = None
) -> Regulariser | None:
    """Return the recipe's regulariser, or None where it asks for none.

    Args:
        network: what is trained.
        config: `sparsity`, `sparsity_weight` and `polarisation_t`.
        coupling: the analysis of `network`. Without it l1 and polarisation pull on the scale of every norm, with it
            only on those of channels that may be removed; group and mask need it.
        keep: for mask: what stays, as `make_plan` takes it.

    Raises:
        ConfigError: the coupling or `keep` is missing, or there is no scale to pull on.
    """
    if config.sparsity == "none":
        return None
    if config.sparsity == "group":
        return GroupPull(network, _needed(coupling, "group", "a coupling"), config.sparsity_weight)
    if config.sparsity == "mask":
        flags = _needed(coupling, "mask", "a coupling").removed(_needed(keep, "mask", "the plan to follow"))
        return ScalePull(_masks(network, coupling, flags), config.sparsity_weight)
    masks = _masks(network, coupling, None if coupling is None else _free(coupling))
    if config.sparsity == "l1":
        return ScalePull(masks, config.sparsity_weight)
    return Polarisation(masks, config.sparsity_weight, config.polarisation_t)


def norm_scales(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the learnt scales of batch, instance and group norms by name, a shared one once."""
    norms = {
        f"{name}.weight" if name else "weight": module
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm)  # pyright: ignore[reportPrivateUsage]
    }
    learnt = {name: norm.weight for name, norm in norms.items() if norm.affine and norm.weight.requires_grad}
    first = _canonical(network)
    return {name: scale for name, scale in learnt.items() if first[name] == name}


def _needed(value: _T | None, sparsity: str, what: str) -> _T:
    if value is None:
        raise ConfigError(
            f"train.sparsity {sparsity} needs {what}, which only a pruning has. Write `prunekit prune --sparsity "
            f"{sparsity}`, or train with train.sparsity l1 or polarisation."
        )
    return value


def _free(coupling: Coupling) -> Flags:
    """Return a flag per label: belongs to a group that may be pruned."""
    flags = np.zeros(coupling.label_count, dtype=bool)
    for group in coupling.free:
        flags[group.units] = True
    return flags


def _masks(network: nn.Module, coupling: Coupling | None, flags: Flags | None) -> dict[str, Tensor]:
    """Return a 0/1 mask per norm scale: all of it, or the channels whose label is flagged."""
    scales = norm_scales(network)
    if coupling is None or flags is None:
        masks = {name: torch.ones(len(scale)) for name, scale in scales.items()}
    else:
        names = _canonical(network)
        marked = {names[slot.parameter]: flags[slot.labels] for slot in coupling.slots if slot.parameter in names}
        masks = {name: torch.from_numpy(marked[name]).float() for name in scales if name in marked}
        masks = {name: mask_C for name, mask_C in masks.items() if mask_C.any()}
    if not masks:
        raise ConfigError(
            "train.sparsity l1, polarisation and mask pull on the scales of norms, and no removable channel of this "
            "network has one. Write train.sparsity group, or none."
        )
    return masks


def _canonical(network: nn.Module) -> dict[str, str]:
    """Return the first name of every parameter by each of its names."""
    first = {id(parameter): name for name, parameter in network.named_parameters()}
    return {name: first[id(parameter)] for name, parameter in network.named_parameters(remove_duplicate=False)}


def _pulled(network: nn.Module, masks: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
    """Return (scale, its gradient, its mask) of the scales that took part in this step."""
    parameters = dict(network.named_parameters())
    chosen = ((parameters[name], mask_C) for name, mask_C in masks.items())
    return [(scale, scale.grad, mask_C.to(scale)) for scale, mask_C in chosen if scale.grad is not None]


def _members(group: Group, names: Mapping[str, str], scales: Mapping[str, nn.Parameter]) -> list[_Member]:
    """Return the weights and norm scales of a group; not its biases, running statistics and learnt data."""
    members: list[_Member] = []
    for slot in group.slots:
        weight = slot.role in ("out", "in") and slot.parameter in names and not slot.parameter.endswith("bias")
        if weight or (slot.role == "norm" and names.get(slot.parameter) in scales):
            members.append(_Member(names[slot.parameter], slot.dim, _units_of(group, slot)))
    return members


def _units_of(group: Group, slot: Slot) -> Tensor:
    order = np.argsort(group.units)
    found = np.searchsorted(group.units[order], slot.labels).clip(max=group.width - 1)
    own = group.units[order][found] == slot.labels
    return torch.from_numpy(np.where(own, order[found], group.width))


def _norms(parameters: Mapping[str, Tensor], members: Sequence[_Member], width: int) -> Tensor:
    """Return the group norm of each unit, float32 [U]."""
    first = parameters[members[0].parameter]
    squares_V = torch.zeros(width + 1, device=first.device)
    for member in members:
        weight = parameters[member.parameter].detach().float()
        squares_C = weight.square().movedim(member.dim, 0).reshape(len(member.unit_C), -1).sum(dim=1)
        squares_V.index_add_(0, member.unit_C.to(first.device), squares_C)
    return squares_V[:width].sqrt()


def _factors(norm_U: Tensor) -> Tensor:
    """Return 1 for the strongest unit up to 2^4 for the weakest; 1 for all where they are equally strong."""
    low, high = norm_U.min(), norm_U.max()
    spread = (high - low).clamp(min=torch.finfo(norm_U.dtype).tiny)
    return torch.exp2(GROUP_STEEPNESS * (high - norm_U) / spread)


def _identity(kind: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(kind.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
