"""Losses that follow the overlap of regions, as IoU does: Dice and Lovasz-softmax.

Both are means over the classes that have a counted pixel in the batch, and 0 where none has.
Shapes: B batch, K classes, H height, W width, N counted pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from prunekit.training.losses.pixelwise import wide


def dice_loss(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """Return the mean over the classes of 1 - 2 sum(p g) / (sum p + sum g), over all counted pixels at once.

    p is the probability, g 1 at the class's pixels. Sudre et al. 2017 (arXiv 1707.03237, section 2), classes alike.
    """
    probabilities_NK, labels_N = _counted(logits_BKHW, labels_BHW, ignore_index)
    true_NK = F.one_hot(labels_N, probabilities_NK.shape[1]).to(probabilities_NK)
    pixels_K = true_NK.sum(dim=0)
    # A class without a pixel is not counted; its sums may both be 0.
    sums_K = (probabilities_NK.sum(dim=0) + pixels_K).clamp(min=1e-12)
    losses_K = 1 - 2 * (probabilities_NK * true_NK).sum(dim=0) / sums_K
    present_K = pixels_K > 0
    return (losses_K * present_K).sum() / present_K.sum().clamp(min=1)


def lovasz_loss(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """Return the mean over the classes of the Lovasz extension of 1 - IoU, over all counted pixels at once.

    Berman et al. 2018 (arXiv 1705.08790, eqs. 8 and 9, algorithm 1), classes "present".
    """
    probabilities_NK, labels_N = _counted(logits_BKHW, labels_BHW, ignore_index)
    if not len(labels_N):
        return probabilities_NK.sum()
    losses = [_lovasz(probabilities_NK[:, label], labels_N == label) for label in labels_N.unique().tolist()]
    return torch.stack(losses).mean()


def _lovasz(probabilities_N: Tensor, true_N: Tensor) -> Tensor:
    """Return the sum of the errors, the largest first, each times what the Jaccard loss grows by with its pixel."""
    errors_N = (true_N.to(probabilities_N) - probabilities_N).abs()
    sorted_N, order_N = errors_N.sort(descending=True, stable=True)
    with torch.no_grad():
        true_sorted_N = true_N[order_N].double()  # float32 cannot count above 2^24 pixels
        pixels = true_sorted_N.sum()
        intersection_N = pixels - true_sorted_N.cumsum(0)
        union_N = pixels + (1 - true_sorted_N).cumsum(0)
        jaccard_N = 1 - intersection_N / union_N
        growth_N = torch.cat([jaccard_N[:1], jaccard_N.diff()]).to(probabilities_N)
    return (sorted_N * growth_N).sum()


def _counted(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return the probabilities_NK and labels_N of the pixels that count."""
    probabilities_BHWK = wide(logits_BKHW).softmax(dim=1).movedim(1, -1)
    counted_BHW = labels_BHW != ignore_index
    return probabilities_BHWK[counted_BHW], labels_BHW[counted_BHW]
