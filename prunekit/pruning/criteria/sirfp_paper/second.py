"""sirfp-v2: SIRFP's second version, redundancy with gradient, mended so that its two terms can be added.

Published (sirfp.md 1.2 d): 0.4 times the moving average of a batch norm's gradient, less the degree at deletion.
Neither term has a scale that two layers share: gradients differ by layer and by the loss scale, degrees by the number
of channels and of places (sirfp.md 1.4, items 2 and 5). Here, for each group:

* redundancy is the cosine at the consumers' inputs, and a degree is divided by the largest it can be, U - 1;
* the gradient is that of the group's gate at its consumers, by DCFP's rule a sample, and then its rank in the group.

So the degree lies in 0..1, the gradient term in 0..0.4, and one threshold can serve all groups. Everything in this list
is our choice; what is kept of the publication is the form of the score, the rule of the greedy removal, the rule for
which gradients count (sirfp.md 3), and the weight.

Shapes: S samples, U units.
"""

import numpy as np
from torch import Tensor

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.clique import greedy_removal
from prunekit.pruning.criteria.criterion import Allocation, Need
from prunekit.pruning.criteria.sirfp_paper.gradient import GRADIENT_WEIGHT
from prunekit.pruning.evidence import Evidence, Ranking, by_score, gate_gradients, redundancy, unused


class SirfpV2:
    """The criterion `sirfp-v2`; the module's docstring says what is published and what is ours."""

    name = "sirfp-v2"
    summary = "redundancy with gradient, each normalised before mixing (after SIRFP-V2, arXiv 2412.12672)"
    allocation: Allocation = "global"
    needs: frozenset[Need] = frozenset({"data", "gradients"})

    def __init__(self, gradient_weight: float = GRADIENT_WEIGHT) -> None:
        self.gradient_weight = gradient_weight

    def rank(self, evidence: Evidence) -> dict[str, Ranking]:
        """Rank the units of every free group; prices lie in 0..1.4 and can be compared across groups.

        Raises:
            PruneError: a group was not seen, or no gradient reached it.
        """
        gates = gate_gradients(evidence)
        return {
            group.name: by_score(self.score(redundancy(evidence.statistics, group.name), gates[group.name].gate_SU))
            if evidence.coupling.runs(group)
            else unused(group.width)
            for group in evidence.coupling.free
        }

    def score(self, redundancy_UU: Tensor, gate_SU: Tensor) -> FloatArray:
        """Return 1 - degree at deletion / (U - 1) + weight x rank of the gradient / U, high to keep."""
        order_U, degree_U = greedy_removal(redundancy_UU)
        score_U = 1.0 + self.gradient_weight * relative_rank(equalised_gradient(gate_SU))
        score_U[order_U] -= degree_U / max(1, len(order_U) - 1)
        return np.maximum(score_U, 0.0)  # rounding of cosines may leave -1e-16


def equalised_gradient(gate_SU: Tensor) -> FloatArray:
    """Return the mean of |g| over all samples, counting those where a smaller gate would lower the loss (g > 0) only.

    DCFP's rule for a batch norm's scale (sirfp.md 3) on a gate of 1, sample by sample instead of step by step.
    """
    return gate_SU.clamp_min(0).mean(dim=0).double().cpu().numpy()


def relative_rank(value_U: FloatArray) -> FloatArray:
    """Return the share of values that are lower, equal ones counted half: in 0..1, whatever the values' scale."""
    ordered = np.sort(value_U)
    lower, upper = np.searchsorted(ordered, value_U, "left"), np.searchsorted(ordered, value_U, "right")
    return (lower + upper) / (2 * len(value_U))
