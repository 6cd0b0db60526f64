"""First-order Taylor criteria (Molchanov et al. 2019, "Importance estimation for neural network pruning")."""

import numpy as np

from prunekit.pruning.coupling import makers, unit_sums
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence


def gate_scores(evidence: Evidence) -> Scores:
    """Average the squared gate gradient over batches: what removing the unit does to the loss, to first order.

    A gate that a coupling group shares sees the sum over its members before it is squared, as residual gates do in the
    paper. Its gate stands after the batch norm; ours at the readers, which is the same through a ReLU.
    """
    return {name: gates.batch_means().square().mean(dim=0).numpy() for name, gates in evidence.gates.items()}


def weight_scores(evidence: Evidence) -> Scores:
    """Average over batches the sum of (w dL/dw)^2 over the weights that make a unit.

    The weight form of the paper (method 0 of its code), summed over the members of a group.
    """
    coupling, network = evidence.coupling, evidence.network
    total = {group.name: np.zeros(group.width) for group in coupling.free}
    batches = 0
    for _ in evidence.gradients():
        batches += 1
        for group in coupling.free:
            for slot, weight in makers(group, coupling, network):
                if weight.grad is not None:
                    total[group.name] += unit_sums((weight.detach() * weight.grad).square(), slot, group)
    return {name: score_U / max(batches, 1) for name, score_U in total.items()}
