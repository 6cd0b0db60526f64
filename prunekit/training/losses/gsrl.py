"""GSRL: cross-entropy rebalanced towards rare classes, their surroundings, and ambiguous pixels.

The loss of DCFP, which SIRFP fine-tunes with, from a reading of the official code (sirfp.md 1.3). It is no sparsity
regulariser.

Shapes: B batch, K classes, H height, W width.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

EFFECTIVE_BETA: Final = 0.9999  # beta of the effective number of pixels, (1 - beta^n) / (1 - beta)
NEIGHBOURHOOD: Final = 9  # px; side of the window over which a rare class lends its weight to its surroundings
AMBIGUITY: Final = 9.0  # an undecided pixel weighs 1 + 9 times a certain one
_EPSILON: Final = 1e-8


def rebalanced_weights(logits_BKHW: Tensor, labels_BHW: Tensor, drawn_B: Tensor | None, ignore_index: int) -> Tensor:
    """Return the weight of each pixel, float32 weights_BHW without gradient, 0 where it is ignored.

    class weight w_c = clip((1 - beta^n_d) / (1 - beta^n_c), 0, 1), n_c the pixels of class c in the image and d the
    class that the crop was drawn for; its maximum over a 9 x 9 window; times 1 + 9 (1 - (p1 - p2)), with p1 and p2 the
    two largest probabilities.

    Our reading, where the code is silent: without a drawn class (`data.sampler` uniform) d is the rarest class of the
    image, and ignored pixels weigh nothing, whatever stands beside them.
    """
    with torch.no_grad():
        counted_BHW = labels_BHW != ignore_index
        by_class_BK = _class_weights(labels_BHW, counted_BHW, logits_BKHW.shape[1], drawn_B)
        known_BHW = labels_BHW.where(counted_BHW, 0)
        weights_BHW = by_class_BK.gather(1, known_BHW.flatten(1)).view_as(labels_BHW) * counted_BHW
        spread_BHW = F.max_pool2d(weights_BHW, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
        top_B2HW = logits_BKHW.float().softmax(dim=1).topk(2, dim=1).values
        ambiguity_BHW = 1 - (top_B2HW[:, 0] - top_B2HW[:, 1])
        return spread_BHW * (1 + AMBIGUITY * ambiguity_BHW) * counted_BHW


def weighted_cross_entropy(logits_BKHW: Tensor, labels_BHW: Tensor, weights_BHW: Tensor, ignore_index: int) -> Tensor:
    """Return the mean over the images of each image's weighted mean cross-entropy, sum(W CE) / (sum(W) + 1e-8)."""
    losses_BHW = F.cross_entropy(logits_BKHW.float(), labels_BHW, ignore_index=ignore_index, reduction="none")
    weighted_B = (losses_BHW * weights_BHW).flatten(1).sum(dim=1)
    return (weighted_B / (weights_BHW.flatten(1).sum(dim=1) + _EPSILON)).mean()


def _class_weights(labels_BHW: Tensor, counted_BHW: Tensor, num_classes: int, drawn_B: Tensor | None) -> Tensor:
    """Return the effective-number weight of each class in each image, float32 [B, K]."""
    # Float64: 1 - 0.9999^n loses half of float32's digits at n = 1.
    known_BN, counted_BN = labels_BHW.where(counted_BHW, 0).flatten(1), counted_BHW.flatten(1).double()
    counts_BK = counted_BN.new_zeros(len(labels_BHW), num_classes).scatter_add_(1, known_BN, counted_BN)
    effective_BK = 1 + _EPSILON - EFFECTIVE_BETA**counts_BK
    if drawn_B is None:
        reference_B1 = effective_BK.where(counts_BK > 0, torch.inf).amin(dim=1, keepdim=True)
    else:
        reference_B1 = effective_BK.gather(1, drawn_B[:, None])
    return (reference_B1 / effective_BK).clamp(0, 1).float()
