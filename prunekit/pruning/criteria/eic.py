"""DCFP's equalisation importance criterion (IEEE TCSVT 34(7), 2024, doi 10.1109/TCSVT.2023.3344099).

Importance should not be ruled by the gradients of frequent classes; the criterion counts gradients only where descent
would shrink a channel's scale. Formula from reading the official code (sirfp.md 3): it is |g|, not |g gamma|.
"""

from dataclasses import dataclass, field

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Member, gathered, scales
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence

# r of DCFP's train.py (sirfp.md 3).
MOMENTUM = 0.999


@dataclass
class _Average:
    """The running importance of one norm's channels; a step that does not count leaves it as it is."""

    member: Member
    value_C: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.value_C = np.zeros(len(self.member.tensor))

    def step(self) -> None:
        gamma = self.member.tensor
        if gamma.grad is None:
            return
        gradient_C = gamma.grad.double().cpu().numpy()
        shrinks_C = gradient_C * gamma.detach().double().cpu().numpy() > 0
        moved_C = MOMENTUM * self.value_C + (1 - MOMENTUM) * np.abs(gradient_C)
        self.value_C = np.where(shrinks_C, moved_C, self.value_C)


def eic_scores(evidence: Evidence) -> Scores:
    """Average |dL/dgamma| over the batches in which descent would shrink |gamma|; sum over the norms of a group.

    Official: collected while training goes on, one step after another, and the union of the members' masks. Ours: on
    the trained network in evaluation mode, one score per group. The average starts at 0, so it grows with the batches.

    Raises:
        PruneError: a group has no norm with a learnt scale.
    """
    coupling, network = evidence.coupling, evidence.network
    averages = {group.name: [_Average(member) for member in scales(group, network)] for group in coupling.free}
    for _ in evidence.gradients():
        for members in averages.values():
            for average in members:
                average.step()
    return {
        group.name: np.sum([gathered(one.value_C, one.member.slot, group) for one in averages[group.name]], axis=0)
        for group in coupling.free
    }
