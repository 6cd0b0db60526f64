"""Greedy, then swaps: exchange a kept channel for a removed one as long as that lowers what remains.

The best-improvement neighbourhood of exchanging one vertex, a standard local search. On large layers it was found to
make 0 to 3 swaps and to gain 0.4 % at most (sirfp.md 1.4); benchmarks/clique_quality.py measures it here.

C channels; K kept, L left out.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.clique.greedy import greedy
from prunekit.pruning.clique.matrix import edges

_RELATIVE_GAIN = 1e-12
"""Smallest gain of a swap as a share of the largest degree: above rounding, so that no two swaps undo each other."""

Mask = npt.NDArray[np.bool_]


def greedy_with_swaps(redundancy_CC: Tensor, keep: int) -> Tensor:
    """Return `keep` channels: the greedy removal's, improved until no single swap lowers the objective.

    Args:
        redundancy_CC: symmetric redundancy on any device; the sign and the diagonal are ignored.
        keep: how many channels stay, in 1..C.

    Returns:
        Sorted int64 indices, on the matrix's device.

    Raises:
        PruneError: `keep` is not in 1..C, or the matrix is not square, finite and symmetric.
    """
    return improved_by_swaps(redundancy_CC, greedy(redundancy_CC, keep))


def improved_by_swaps(redundancy_CC: Tensor, kept: Tensor) -> Tensor:
    """Return a set of the same size that no single swap improves, reached from `kept` by the best swap at each step.

    A swap updates the degrees of all channels by two rows, in O(C); the next one is looked for among the pairs whose
    degrees leave room for a gain.

    Args:
        redundancy_CC: symmetric redundancy on any device; the sign and the diagonal are ignored.
        kept: int64 [K], distinct channels in any order.

    Returns:
        Sorted int64 indices, on the matrix's device.

    Raises:
        PruneError: the indices repeat or are out of range, or the matrix is not square, finite and symmetric.
    """
    weights_CC = edges(redundancy_CC).without_diagonal()
    index_K = kept.cpu().numpy()
    in_range = len(index_K) == 0 or (index_K.min() >= 0 and index_K.max() < len(weights_CC))
    if not in_range or len(np.unique(index_K)) != len(index_K):
        raise PruneError(
            f"Kept channels must be distinct and in 0..{len(weights_CC) - 1}, got {index_K.tolist()}. "
            "Pass each channel once."
        )
    kept_C = np.zeros(len(weights_CC), dtype=bool)
    kept_C[index_K] = True
    swap_until_best_(weights_CC, kept_C)
    return torch.from_numpy(kept_C.nonzero()[0]).to(redundancy_CC.device)


def swap_until_best_(weights_CC: FloatArray, kept_C: Mask) -> None:
    """Change `kept_C` by best swaps until there is none; `weights_CC` is non-negative and zero on the diagonal."""
    inside_C: FloatArray = weights_CC[:, kept_C].sum(axis=1)  # sum of each channel's weights with the kept ones
    heaviest = float(weights_CC.max())
    least_gain = _RELATIVE_GAIN * max(float(inside_C.max()), heaviest)
    while (swap := _best_swap(weights_CC, inside_C, kept_C, heaviest, least_gain)) is not None:
        enters, leaves = swap
        kept_C[enters], kept_C[leaves] = True, False
        inside_C += weights_CC[enters] - weights_CC[leaves]


def _best_swap(
    weights_CC: FloatArray, inside_C: FloatArray, kept_C: Mask, heaviest: float, least_gain: float
) -> tuple[int, int] | None:
    """Return who enters and who leaves, or None if no swap gains more than rounding.

    Swapping removed l for kept k changes the objective by inside[l] - inside[k] - w[l, k], and w is at most `heaviest`:
    most channels cannot be part of a gain, whatever the partner.
    """
    if kept_C.all() or not kept_C.any():
        return None
    enters_L = np.flatnonzero(~kept_C & (inside_C < inside_C[kept_C].max() + heaviest))
    leaves_K = np.flatnonzero(kept_C & (inside_C > inside_C[~kept_C].min() - heaviest))
    if len(enters_L) == 0 or len(leaves_K) == 0:
        return None
    change_LK = inside_C[enters_L, None] - inside_C[leaves_K] - weights_CC[np.ix_(enters_L, leaves_K)]
    best = int(change_LK.argmin())
    if change_LK.flat[best] >= -least_gain:
        return None
    return int(enters_L[best // len(leaves_K)]), int(leaves_K[best % len(leaves_K)])
