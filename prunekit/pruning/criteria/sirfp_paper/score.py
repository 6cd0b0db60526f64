"""The score of a channel: a bonus less the degree it had when the greedy removal took it.

Shapes: C channels of one batch norm.
"""

from typing import Protocol

import numpy as np
from torch import Tensor

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.clique import greedy_removal


class Score(Protocol):
    """How a batch norm's statistics become scores, high to keep."""

    def __call__(self, redundancy_CC: Tensor, bonus_C: Tensor | None) -> FloatArray:
        """Return [C]."""
        ...


class DeletionDegree:
    """q = bonus - degree at deletion.

    The channel with the largest sum of |S| over those that remain, itself included, is removed until none is left; its
    sum at that moment is the degree. The bonus plays no part in the order. A channel that is always zero repeats
    nothing by this measure and so is kept longest, as in the official code. Source: sirfp.md 1.2 d, a reading of it.
    """

    def __call__(self, redundancy_CC: Tensor, bonus_C: Tensor | None) -> FloatArray:
        """Return [C]."""
        self_C = redundancy_CC.diagonal().double().abs().cpu().numpy()
        order_C, degree_C = greedy_removal(redundancy_CC, vertex_U=-self_C)
        score_C = np.zeros(len(self_C)) if bonus_C is None else bonus_C.double().cpu().numpy().copy()
        score_C[order_C] -= degree_C + self_C[order_C]
        return score_C
