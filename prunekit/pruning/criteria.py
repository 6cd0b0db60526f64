"""Scores that say which units of a group to keep: higher stays longer."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prunekit.pruning.clique import greedy_order
from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.ids import IntArray

Scores = dict[str, IntArray]


def clique_scores(coupling: Coupling, redundancy: Mapping[str, Tensor]) -> Scores:
    """Score by the step of the greedy clique at which a unit would be removed (SIRFP, Algorithm 1)."""
    return {group.name: _ranks(greedy_order(redundancy[group.name])) for group in coupling.free}


def l2_scores(coupling: Coupling, network: nn.Module) -> Scores:
    """Score by the summed squared weights that make a unit, each layer's divided by its mean."""
    return {group.name: _ranks(np.argsort(_energy(group, network), kind="stable")) for group in coupling.free}


def random_scores(coupling: Coupling, seed: int) -> Scores:
    """Score at random: the control that every criterion must beat."""
    generator = np.random.default_rng(seed)
    return {group.name: generator.permutation(group.width) for group in coupling.free}


def _ranks(order: IntArray) -> IntArray:
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _energy(group: Group, network: nn.Module) -> npt.NDArray[np.float64]:
    tensors = dict(network.named_parameters(remove_duplicate=False))
    total = np.zeros(group.width)
    place = {int(label): unit for unit, label in enumerate(group.units)}
    for slot in group.slots:
        weight = tensors.get(slot.parameter)
        if slot.role != "out" or weight is None or weight.dim() < 2:
            continue
        squares = weight.detach().movedim(slot.dim, 0).flatten(1).square().sum(dim=1).to("cpu", torch.float64).numpy()
        units = np.asarray([place.get(int(label), -1) for label in slot.labels])
        own = units >= 0
        np.add.at(total, units[own], squares[own] / max(float(squares[own].mean()), 1e-30))
    return total
