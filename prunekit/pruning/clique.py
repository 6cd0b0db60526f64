"""Which channels to keep: the greedy solution of the maximum-edge-weight clique, in O(C^2).

Keeping b channels so that the sum of pairwise redundancy among them is least is the maximum-edge-weight clique with
edge weights of minus the redundancy (SIRFP, arXiv 2412.12672, Algorithm 1). The exact problem is NP-hard; the paper's
heuristic removes, one at a time, the channel that repeats the remaining ones most.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def greedy_order(redundancy_CC: Tensor, removals: int | None = None) -> npt.NDArray[np.int64]:
    """Return channels in the order of removal, the most redundant first.

    The degree of a channel is the sum of its redundancy with the channels that remain; each removal subtracts one row,
    so R removals cost R row subtractions. Degrees are kept in float64: float32 degrees drift over 2,048 removals.

    Args:
        redundancy_CC: symmetric redundancy; the sign and the diagonal are ignored.
        removals: how many to return; None orders all C.
    """
    weights = redundancy_CC.detach().to("cpu", torch.float32).abs().numpy()  # abs makes the copy that is written to
    np.fill_diagonal(weights, 0.0)
    degree = weights.sum(axis=1, dtype=np.float64)
    order = np.empty(len(degree) if removals is None else removals, dtype=np.int64)
    for step in range(len(order)):
        worst = int(degree.argmax())
        order[step] = worst
        degree -= weights[worst]
        degree[worst] = -np.inf  # -inf minus a finite row stays -inf: the channel is never chosen again
    return order


def greedy(redundancy_CC: Tensor, keep: int) -> Tensor:
    """Return the sorted indices of the `keep` channels that the greedy removal leaves.

    Raises:
        ValueError: `keep` is not in 1..C.
    """
    channels = redundancy_CC.shape[0]
    if not 1 <= keep <= channels:
        raise ValueError(f"keep must be in 1..{channels}, got {keep}")
    kept = np.ones(channels, dtype=bool)
    kept[greedy_order(redundancy_CC, channels - keep)] = False
    return torch.from_numpy(kept.nonzero()[0])
