"""Which channels to keep: the greedy solution of the maximum-edge-weight clique, in O(C^2).

Keeping b channels so that the sum of pairwise redundancy among them is least is the maximum-edge-weight clique with
edge weights of minus the redundancy (SIRFP, arXiv 2412.12672, Algorithm 1). The exact problem is NP-hard; the paper's
heuristic removes, one at a time, the channel that repeats the remaining ones most. The published code adds up all
degrees again after each removal, in O(C^3); subtracting one row does the same.

C channels; R removals; U units of a coupling group, which stand where channels stand.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.clique.matrix import check_keep, edges


class Removal(NamedTuple):
    """Channels in the order in which the greedy rule removes them."""

    order_R: IntArray
    """The channel that goes at each step."""
    degree_R: FloatArray
    """Its degree then: the sum of its redundancy with the channels that were still there, itself left out."""


def greedy_removal(
    redundancy_CC: Tensor, removals: int | None = None, vertex_U: npt.ArrayLike | None = None
) -> Removal:
    """Return the order of removal and each channel's degree at its removal.

    At every step the channel goes whose removal costs least, where removing v costs `vertex_U[v]` minus v's degree
    among the channels that remain; without vertex weights that is the channel of the largest degree (arXiv 2412.12672,
    Algorithm 1). With them the rule is the greedy descent of: sum of kept vertex weights minus sum of kept pairs, our
    extension. A score that counts the diagonal, as the published code's does (sirfp.md 1.2 d), is had by vertex
    weights of minus the diagonal. Of equal channels the first goes.

    Degrees are kept in float64: float32 degrees drift over 2,048 removals and change 2 % of the kept set.

    Args:
        redundancy_CC: symmetric redundancy; the sign and the diagonal are ignored.
        removals: how many to return; None removes all C.
        vertex_U: what keeping each channel is worth besides, in units of the redundancy; None is 0 for each.

    Raises:
        PruneError: the matrix is not square, finite and symmetric, `removals` is not in 0..C, or the vertex weights
            are not C finite numbers.
    """
    weights_CC, degree_C = edges(redundancy_CC)
    channels = len(weights_CC)
    steps = channels if removals is None else removals
    if not 0 <= steps <= channels:
        raise PruneError(f"removals must be in 0..{channels}, the number of channels, got {steps}. Remove fewer.")
    vertex_C = _checked_vertices(vertex_U, channels)
    gain_C = degree_C - vertex_C  # what removing each channel gains
    order_R, gain_R = np.empty(steps, dtype=np.int64), np.empty(steps, dtype=np.float64)
    for step in range(steps):
        worst = int(gain_C.argmax())
        order_R[step], gain_R[step] = worst, gain_C[worst]
        gain_C -= weights_CC[worst]
        gain_C[worst] = -np.inf  # -inf minus a finite row stays -inf: the channel is never chosen again
    return Removal(order_R, gain_R + vertex_C[order_R])


def greedy_order(redundancy_CC: Tensor, removals: int | None = None) -> IntArray:
    """Return channels in the order of removal, the most redundant first: `greedy_removal` without the degrees.

    Raises:
        PruneError: as `greedy_removal`.
    """
    return greedy_removal(redundancy_CC, removals).order_R


def greedy(redundancy_CC: Tensor, keep: int) -> Tensor:
    """Return the `keep` channels that the greedy removal leaves (SIRFP, arXiv 2412.12672, Algorithm 1).

    Args:
        redundancy_CC: symmetric redundancy on any device; the sign and the diagonal are ignored.
        keep: how many channels stay, in 1..C.

    Returns:
        Sorted int64 indices, on the matrix's device.

    Raises:
        PruneError: `keep` is not in 1..C, or the matrix is not square, finite and symmetric.
    """
    check_keep(redundancy_CC, keep)
    kept_C = np.ones(len(redundancy_CC), dtype=bool)
    kept_C[greedy_order(redundancy_CC, len(redundancy_CC) - keep)] = False
    return torch.from_numpy(kept_C.nonzero()[0]).to(redundancy_CC.device)


def _checked_vertices(vertex_U: npt.ArrayLike | None, channels: int) -> FloatArray:
    if vertex_U is None:
        return np.zeros(channels)
    vertex_C = np.asarray(vertex_U, dtype=np.float64)
    if vertex_C.shape != (channels,) or not np.isfinite(vertex_C).all():
        raise PruneError(
            f"Vertex weights are one finite number for each of the {channels} channels, got the shape "
            f"{vertex_C.shape}{'' if np.isfinite(vertex_C).all() else ' with infinite values or NaN'}. "
            "Pass one worth a channel."
        )
    return vertex_C
