"""DepGraph's group norm (Fang et al. 2023, "DepGraph: towards any structural pruning")."""

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Group, Member, makers, readers, scale_members, unit_sums
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence


def group_norm_scores(evidence: Evidence) -> Scores:
    """Average |w|^2 of a unit's slices over all members, relative to the group's mean: comparable across groups.

    Members are the weights that make the channels, those that read them, and the scales of the norms (sirfp.md 5, from
    reading the authors' code).
    """
    return {group.name: _relative(_mean_squares(evidence, group)) for group in evidence.coupling.free}


def members(evidence: Evidence, group: Group) -> list[Member]:
    """Return everything that the group's norm is taken over."""
    coupling, network = evidence.coupling, evidence.network
    return [*makers(group, coupling, network), *readers(group, coupling, network), *scale_members(group, network)]


def _mean_squares(evidence: Evidence, group: Group) -> FloatArray:
    sums = [unit_sums(tensor.detach().square(), slot, group) for slot, tensor in members(evidence, group)]
    return np.mean(sums, axis=0)


def _relative(score_U: FloatArray) -> FloatArray:
    mean = float(score_U.mean())
    return score_U / mean if mean > 0 else score_U
