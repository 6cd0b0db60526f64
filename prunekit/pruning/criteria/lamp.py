"""LAMP (Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning"), for units."""

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.criteria.magnitude import filter_powers
from prunekit.pruning.evidence import Evidence


def lamp_scores(evidence: Evidence) -> Scores:
    """Divide a unit's squared norm by the sum of those that would still be there when its turn comes.

    The paper's equation (1) for single weights; units with their squared filter norms are its structured form. Every
    group's last unit scores 1, so a global threshold never empties a group.
    """
    return {group.name: lamp(filter_powers(evidence, group, 2)) for group in evidence.coupling.free}


def lamp(square_U: FloatArray) -> FloatArray:
    """Return square_u / sum of square_v over v that come no earlier than u in ascending order."""
    order_U = np.argsort(square_U, kind="stable")
    left_U = np.cumsum(square_U[order_U][::-1])[::-1]
    score_U = np.zeros(len(square_U))
    score_U[order_U] = np.divide(square_U[order_U], left_U, out=np.ones(len(square_U)), where=left_U > 0)
    return score_U
