"""PQ-index-guided ratios (Diao et al. 2023, "Pruning deep neural networks from a sparsity perspective")."""

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.criteria.magnitude import filter_powers
from prunekit.pruning.evidence import Evidence

# 0 < p < q; with these the guided share is 1 minus the index.
P, Q = 0.5, 1.0
# A group of equal norms is not sparse at all and goes last: 1e-6 of a share keeps its price finite.
_LEAST_SHARE = 1e-6


def pq_scores(evidence: Evidence) -> Scores:
    """Order units by the norm of their filters; let each group lose a share in proportion to its PQ index' guidance.

    The paper prunes gamma (1 - r / d) of a vector of d weights whose PQ index says that r of them matter. Here the
    vector holds the norms of a group's units, and one gamma for all groups is found by the global threshold: the price
    of the k-th removal is the gamma at which the group loses k units. Structured and global form: our reading.
    """
    return {group.name: _prices(np.sqrt(filter_powers(evidence, group, 2))) for group in evidence.coupling.free}


def pq_index(values: FloatArray, p: float = P, q: float = Q) -> float:
    """Return the sparsity 1 - d^(1/q - 1/p) |w|_p / |w|_q, in [0, 1): 0 where all d values are equal."""
    magnitude = np.abs(values) / max(float(np.abs(values).max()), 1e-300)
    norm_p = float((magnitude**p).sum() ** (1 / p))
    norm_q = float((magnitude**q).sum() ** (1 / q))
    return 1 - len(values) ** (1 / q - 1 / p) * norm_p / norm_q if norm_q > 0 else 0.0


def guided_share(values: FloatArray, p: float = P, q: float = Q) -> float:
    """Return the share r / d that matters: (1 - index)^(pq / (q - p)), the paper's bound with eta = 0.

    Of a vector with r equal values and zeros it is exactly r / d.
    """
    return (1 - pq_index(values, p, q)) ** (p * q / (q - p))


def _prices(norm_U: FloatArray) -> FloatArray:
    width = len(norm_U)
    share = max(1 - guided_share(norm_U), _LEAST_SHARE)
    price_U = np.empty(width)
    price_U[np.argsort(norm_U, kind="stable")] = (np.arange(width) + 1) / width / share
    return price_U
