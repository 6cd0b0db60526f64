"""Controls: what a solver of the clique must beat to be worth its name."""

import torch
from torch import Tensor

from prunekit.pruning.clique.matrix import check_keep, edges


def degree(redundancy_CC: Tensor, keep: int) -> Tensor:
    """Return the `keep` channels of least degree in the whole graph: the greedy rule without its updates.

    Args:
        redundancy_CC: symmetric redundancy on any device; the sign and the diagonal are ignored.
        keep: how many channels stay, in 1..C.

    Returns:
        Sorted int64 indices, on the matrix's device; of equal channels the last stays, as in `greedy`.

    Raises:
        PruneError: `keep` is not in 1..C, or the matrix is not square, finite and symmetric.
    """
    check_keep(redundancy_CC, keep)
    order_C = torch.from_numpy(edges(redundancy_CC).degree_C).argsort(descending=True, stable=True)
    return order_C[len(order_C) - keep :].sort().values.to(redundancy_CC.device)


def random_subset(redundancy_CC: Tensor, keep: int, *, seed: int = 0) -> Tensor:
    """Return `keep` channels drawn uniformly; the redundancy decides nothing but their number.

    Args:
        redundancy_CC: redundancy on any device.
        keep: how many channels stay, in 1..C.
        seed: of the draw; the same on every device.

    Returns:
        Sorted int64 indices, on the matrix's device.

    Raises:
        PruneError: `keep` is not in 1..C, or the matrix is not square.
    """
    check_keep(redundancy_CC, keep)
    drawn_C = torch.randperm(len(redundancy_CC), generator=torch.Generator().manual_seed(seed))
    return drawn_C[:keep].sort().values.to(redundancy_CC.device)
