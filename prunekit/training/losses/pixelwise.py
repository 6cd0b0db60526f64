"""Cross-entropy by pixel, and its forms that weigh classes or hard pixels.

Shapes: B batch, K classes, H height, W width, N counted pixels. All are computed in float32 or wider; a batch without a
counted pixel has loss 0, not nan.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(
    logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int, weights_K: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy over the pixels that count, weighted by their class: sum(w CE) / sum(w).

    Args:
        logits_BKHW: of any float type.
        labels_BHW: int64.
        ignore_index: label of the pixels that do not count.
        weights_K: of the classes; None weighs all alike.
    """
    logits_BKHW = wide(logits_BKHW)
    weights_K = None if weights_K is None else weights_K.to(logits_BKHW)
    total = F.cross_entropy(logits_BKHW, labels_BHW, weights_K, ignore_index=ignore_index, reduction="sum")
    return total / weight_of(labels_BHW, ignore_index, weights_K)


def focal_loss(
    logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int, gamma: float, weights_K: Tensor | None = None
) -> Tensor:
    """Return the weighted mean of (1 - p)^gamma CE over the pixels that count, p the true class's probability.

    Lin et al. 2017 (arXiv 1708.02002, eq. 5) with a softmax in place of the sigmoid; the class weights are their alpha.
    """
    losses_N, labels_N = pixel_losses(logits_BKHW, labels_BHW, ignore_index)
    # The clamp keeps the power's gradient finite where p rounds to 1 and gamma is below 1.
    focused_N = (-torch.expm1(-losses_N)).clamp(min=1e-12) ** gamma * losses_N
    return weighted_mean(focused_N, labels_N, weights_K)


def ohem_loss(
    logits_BKHW: Tensor,
    labels_BHW: Tensor,
    ignore_index: int,
    *,
    threshold: float,
    min_share: float,
    weights_K: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean cross-entropy over the hard pixels of a batch (online hard example mining).

    Hard are the pixels whose true class has a probability below `threshold`, and at least the hardest `min_share` of
    those that count. Shrivastava et al. 2016 (arXiv 1604.03540), by pixels in the place of regions.
    """
    losses_N, labels_N = pixel_losses(logits_BKHW, labels_BHW, ignore_index)
    if not len(losses_N):
        return losses_N.sum()
    kept = max(1, math.ceil(min_share * len(losses_N)))
    with torch.no_grad():
        hardest = losses_N.kthvalue(len(losses_N) - kept + 1).values
        hard_N = (losses_N >= hardest) | (torch.exp(-losses_N) < threshold)
    return weighted_mean(losses_N[hard_N], labels_N[hard_N], weights_K)


def pixel_losses(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return losses_N and labels_N of the pixels that count."""
    losses_BHW = F.cross_entropy(wide(logits_BKHW), labels_BHW, ignore_index=ignore_index, reduction="none")
    counted_BHW = labels_BHW != ignore_index
    return losses_BHW[counted_BHW], labels_BHW[counted_BHW]


def weighted_mean(losses_N: Tensor, labels_N: Tensor, weights_K: Tensor | None) -> Tensor:
    """Return sum(w loss) / sum(w), w the weight of each pixel's class; 0 where there is no pixel."""
    if weights_K is None:
        return losses_N.sum() / max(1, len(losses_N))
    weights_N = weights_K.to(losses_N)[labels_N]
    return (losses_N * weights_N).sum() / _divisor(weights_N.sum())


def weight_of(labels_BHW: Tensor, ignore_index: int, weights_K: Tensor | None) -> Tensor:
    """Return what a mean over the pixels that count divides by: their number, or the sum of their weights; never 0."""
    counted_BHW = labels_BHW != ignore_index
    if weights_K is None:
        return counted_BHW.sum().clamp(min=1)
    return _divisor(weights_K[labels_BHW[counted_BHW]].sum())


def wide(logits_BKHW: Tensor) -> Tensor:
    """Return logits in float32, or float64 where they are."""
    return logits_BKHW if logits_BKHW.dtype == torch.float64 else logits_BKHW.float()


def _divisor(total: Tensor) -> Tensor:
    return total.where(total > 0, 1.0)
