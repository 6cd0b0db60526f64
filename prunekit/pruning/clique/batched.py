"""The greedy removal of many groups at once.

On the CPU group after group: one group's rows fit the cache better than all groups'. On a GPU all groups advance
together, one removal a step, and nothing comes back to the host until all orders are known: the matrices lie one after
another in one tensor, so that nothing is padded but the degrees.

G groups; C channels, M most channels of any group; R removals, S most removals of any group.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.clique.greedy import greedy_order
from prunekit.pruning.clique.matrix import check_finite, check_square, check_symmetric


def greedy_orders(matrices: Sequence[Tensor], removals: Sequence[int] | None = None) -> list[Tensor]:
    """Return, for every redundancy matrix, its channels in the order of the greedy removal.

    The rule is that of `greedy_order` (arXiv 2412.12672, Algorithm 1), and so is the result; on a GPU channels whose
    degrees agree to the last digits of float64 may change places, since sums are rounded in another order there.

    Args:
        matrices: symmetric [C, C] each, of any sizes, all on one device; signs and diagonals are ignored.
        removals: how many channels to return of each; None orders all.

    Returns:
        int64 [R] each, on the matrices' device.

    Raises:
        PruneError: the matrices are on several devices, one is not square, finite and symmetric, or a number of
            removals is missing or not in 0..C.
    """
    for matrix_CC in matrices:
        check_square(matrix_CC)
    counts = [len(matrix_CC) for matrix_CC in matrices] if removals is None else list(removals)
    _check_counts(counts, matrices)
    if len({matrix_CC.device for matrix_CC in matrices}) > 1:
        found = ", ".join(sorted({str(matrix_CC.device) for matrix_CC in matrices}))
        raise PruneError(f"All redundancy matrices must be on one device, got {found}. Move them to one.")
    if matrices and matrices[0].device.type == "cuda":
        return orders_together(matrices, counts)
    pairs = zip(matrices, counts, strict=True)
    return [torch.from_numpy(greedy_order(each_CC, count)).to(each_CC.device) for each_CC, count in pairs]


def _check_counts(counts: Sequence[int], matrices: Sequence[Tensor]) -> None:
    if len(counts) != len(matrices):
        raise PruneError(f"Got {len(counts)} removals for {len(matrices)} redundancy matrices. Pass one for each.")
    for count, matrix_CC in zip(counts, matrices, strict=True):
        if not 0 <= count <= len(matrix_CC):
            raise PruneError(
                f"removals must be in 0..{len(matrix_CC)}, the number of channels, got {count}. Remove fewer."
            )


def orders_together(matrices: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Return what `greedy_orders` returns, all groups one removal a step, on any device that has float64."""
    rank_G = sorted(range(len(matrices)), key=lambda group: -counts[group])
    edges_E, gain_GM = _gathered([matrices[group] for group in rank_G])
    widths = [len(matrices[group]) for group in rank_G]
    order_GS = removed_together_(edges_E, gain_GM, widths, [counts[group] for group in rank_G])
    orders: list[Tensor] = [order_GS.new_empty(0)] * len(matrices)
    for row, group in enumerate(rank_G):
        orders[group] = order_GS[row, : counts[group]]
    return orders


def removed_together_(edges_E: Tensor, gain_GM: Tensor, widths: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Remove one channel of every group a step, without waiting for the device in between.

    Args:
        edges_E: the absolute weights of all groups, matrix after matrix, row after row.
        gain_GM: the degrees, -inf beyond a group's width; written to.
        widths: channels of each group.
        counts: removals of each group, largest first, so that the groups still at work are the first rows of every
            tensor and their number is known without asking the device.

    Returns:
        int64 [G, S]; of each row as many entries count as the group has removals.
    """
    device = gain_GM.device
    width_G1 = torch.tensor(widths, device=device)[:, None]
    first_G1 = torch.tensor([0, *accumulate(width**2 for width in widths)][:-1], device=device)[:, None]
    # Columns beyond a group's width read its last one: what is subtracted there is finite, and from -inf.
    column_GM = torch.minimum(torch.arange(max(widths), device=device), width_G1 - 1) + first_G1
    order_GS = torch.zeros(len(widths), max(counts), dtype=torch.int64, device=device)
    for step, active in enumerate(_active(counts)):
        gain_AM = gain_GM[:active]
        worst_A1 = gain_AM.argmax(dim=1, keepdim=True)
        order_GS[:active, step : step + 1] = worst_A1
        gain_AM -= edges_E[column_GM[:active] + worst_A1 * width_G1[:active]]
        gain_AM.scatter_(1, worst_A1, float("-inf"))
    return order_GS


def _gathered(matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return all weights in one line, and the degrees in float64, padded with -inf: never the largest."""
    dtype = torch.float64 if any(matrix.dtype == torch.float64 for matrix in matrices) else torch.float32
    edges_E = torch.cat([matrix_CC.detach().to(dtype).abs().flatten() for matrix_CC in matrices])
    most = max(len(matrix_CC) for matrix_CC in matrices)
    gain_GM = edges_E.new_full((len(matrices), most), float("-inf"), dtype=torch.float64)
    sums: list[Tensor] = []
    for matrix_CC, edges_CC, gain_M in zip(matrices, _split(edges_E, matrices), gain_GM, strict=True):
        rows_C, columns_C = edges_CC.sum(dim=1, dtype=torch.float64), edges_CC.sum(dim=0, dtype=torch.float64)
        gain_M[: len(matrix_CC)] = rows_C - edges_CC.diagonal()
        sums.append(torch.stack([rows_C.max(), (rows_C - columns_C).abs().max()]))
    for largest, difference in torch.stack(sums).tolist():  # the only wait for the device
        check_finite(largest)
        check_symmetric(largest, difference)
    return edges_E, gain_GM


def _split(edges_E: Tensor, matrices: Sequence[Tensor]) -> list[Tensor]:
    pieces = edges_E.split([matrix.numel() for matrix in matrices])
    return [piece.view(matrix.shape) for piece, matrix in zip(pieces, matrices, strict=True)]


def _active(counts: Sequence[int]) -> list[int]:
    """Return, for every step, how many of the descending `counts` are larger than it."""
    active = len(counts)
    found: list[int] = []
    for step in range(counts[0]):
        while counts[active - 1] <= step:
            active -= 1
        found.append(active)
    return found
