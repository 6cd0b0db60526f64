"""The edge weights that every clique solver reads, checked once, and the objective that they all minimise.

Weights are the absolute values of the redundancy: two channels that always fire with opposite signs repeat each other
as much as two that fire alike, and SIRFP's code takes the absolute value at the same moment (reading of the official
code, sirfp.md 1.2). The diagonal is ignored: a channel is no pair with itself (arXiv 2412.12672, Algorithm 1, sums over
j != i).

C channels; K channels kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray

WeightArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_ASYMMETRY = 1e-3
"""Largest difference of a channel's row and column sums, as a share of the largest sum: far above float32 rounding."""


class Edges(NamedTuple):
    """A graph's edge weights and the sums of its rows."""

    weights_CC: WeightArray
    """Absolute values; the diagonal is as it came, and may be the input's own memory: never write to it."""
    degree_C: FloatArray
    """Sum of each channel's weights with all others, the diagonal left out; float64, the caller's to write to."""

    def without_diagonal(self) -> FloatArray:
        """Return a float64 copy of the weights, zero on the diagonal."""
        weights_CC = self.weights_CC.astype(np.float64)
        np.fill_diagonal(weights_CC, 0.0)
        return weights_CC


def edges(redundancy_CC: Tensor) -> Edges:
    """Return the weights on the CPU: float64 as it is, everything else as float32, which holds smaller types exactly.

    Args:
        redundancy_CC: symmetric, finite, on any device.

    Raises:
        PruneError: not a square matrix of at least one channel, not finite, or not symmetric.
    """
    check_square(redundancy_CC)
    dtype = torch.float64 if redundancy_CC.dtype == torch.float64 else torch.float32
    weights_CC: WeightArray = redundancy_CC.detach().to("cpu", dtype).contiguous().numpy()
    if not weights_CC.min() >= 0:  # NaN ends up here too; a redundancy without signs is not copied
        weights_CC = np.abs(weights_CC)
    rows_C: FloatArray = weights_CC.sum(axis=1, dtype=np.float64)
    check_finite(float(rows_C.max()))
    columns_C = np.ones(len(weights_CC), weights_CC.dtype) @ weights_CC
    check_symmetric(float(rows_C.max()), float(np.abs(rows_C - columns_C).max()))
    return Edges(weights_CC, rows_C - weights_CC.diagonal())


def check_square(redundancy_CC: Tensor) -> None:
    """Raise PruneError unless the tensor is a square matrix of at least one channel."""
    if redundancy_CC.dim() != 2 or redundancy_CC.shape[0] != redundancy_CC.shape[1] or len(redundancy_CC) == 0:
        raise PruneError(
            f"A redundancy matrix has one row and one column a channel, got the shape {tuple(redundancy_CC.shape)}. "
            "Pass a square matrix."
        )


def check_finite(largest: float) -> None:
    """Raise PruneError unless `largest`, the largest row sum of the absolute weights, is finite."""
    if not np.isfinite(largest):
        raise PruneError(
            "A redundancy matrix must be finite, got infinite values or NaN. Check the network's weights and the "
            "images its statistics were collected on."
        )


def check_symmetric(largest: float, difference: float) -> None:
    """Raise PruneError unless the largest difference between a row's and its column's sum is due to rounding."""
    if not difference <= _ASYMMETRY * largest:
        raise PruneError(
            f"A redundancy matrix must be symmetric, got rows and columns whose sums differ by {difference:.3g} of "
            f"{largest:.3g}. Pass (matrix + matrix.T) / 2 if that is what is meant."
        )


def check_keep(redundancy_CC: Tensor, keep: int) -> None:
    """Raise PruneError unless the matrix is square and `keep` is in 1..C."""
    check_square(redundancy_CC)
    if not 1 <= keep <= len(redundancy_CC):
        raise PruneError(
            f"keep must be in 1..{len(redundancy_CC)}, the number of channels, got {keep}. Keep at least one."
        )


def objective(redundancy_CC: Tensor, kept: Tensor | Sequence[int]) -> float:
    """Return the redundancy that remains: the sum of |redundancy| over the pairs of kept channels, in float64.

    The negative of the edge weight of the clique (arXiv 2412.12672, Algorithm 1); every solver minimises it.
    """
    index_K = np.asarray(torch.as_tensor(kept).cpu(), dtype=np.int64)
    inside_KK = edges(redundancy_CC).weights_CC[np.ix_(index_K, index_K)].astype(np.float64)
    return float(inside_KK.sum() - np.trace(inside_KK)) / 2
