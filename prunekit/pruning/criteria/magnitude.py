"""Criteria that read the size of the weights: random (their control), L1, L2, global magnitude."""

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Group, makers, unit_sums
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence


def random_scores(evidence: Evidence) -> Scores:
    """Draw scores from U(0, 1): the control that every criterion must beat."""
    generator = np.random.default_rng(evidence.seed)
    return {group.name: generator.random(group.width) for group in evidence.coupling.free}


def l1_scores(evidence: Evidence) -> Scores:
    """Sum the absolute weights that make a unit (Li et al. 2017, "Pruning filters for efficient ConvNets")."""
    return {group.name: filter_powers(evidence, group, 1) for group in evidence.coupling.free}


def l2_scores(evidence: Evidence) -> Scores:
    """Take the Euclidean norm of all weights that make a unit."""
    return {group.name: np.sqrt(filter_powers(evidence, group, 2)) for group in evidence.coupling.free}


def rms_scores(evidence: Evidence) -> Scores:
    """Take the root mean square of the weights that make a unit, comparable across fan-ins.

    Global magnitude pruning (Gupta et al. 2022, arXiv 2209.14624) ranks single weights of all layers by |w|; this is
    its structured analogue, our reading. Its minimum threshold, which keeps some weights in every layer, is the floor
    of the allocation.
    """
    return {group.name: _rms(evidence, group) for group in evidence.coupling.free}


def filter_powers(evidence: Evidence, group: Group, power: int) -> FloatArray:
    """Sum |w|^power over all weights that make each unit."""
    total_U = np.zeros(group.width)
    for slot, weight in makers(group, evidence.coupling, evidence.network):
        total_U += unit_sums(weight.detach().abs() if power == 1 else weight.detach().square(), slot, group)
    return total_U


def _rms(evidence: Evidence, group: Group) -> FloatArray:
    count_U = np.zeros(group.width)
    for slot, weight in makers(group, evidence.coupling, evidence.network):
        count_U += unit_sums(weight.new_ones(()).expand_as(weight), slot, group)
    return np.sqrt(filter_powers(evidence, group, 2) / np.maximum(count_U, 1))
