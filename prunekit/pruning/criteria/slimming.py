"""Network slimming (Liu et al. 2017): the scale of the batch norm says what a channel is worth."""

import numpy as np

from prunekit.pruning.coupling import scales, unit_sums
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence


def slimming_scores(evidence: Evidence) -> Scores:
    """Average |gamma| over the norms along a group's channels: the paper's one threshold is on a single |gamma|.

    The paper's scores come from a training that drives gamma towards zero (`train.sparsity = "l1"`); without it, this
    is slimming's selection alone.

    Raises:
        PruneError: a group has no norm with a learnt scale.
    """
    scores: Scores = {}
    for group in evidence.coupling.free:
        sums = [unit_sums(gamma.detach().abs(), slot, group) for slot, gamma in scales(group, evidence.network)]
        scores[group.name] = np.mean(sums, axis=0)
    return scores
