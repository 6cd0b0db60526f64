"""The losses of the CCS head: coarse classifier, distance between centres, distance of pixels to their centre.

Reconstructed from the author's development code (see prunekit.models.ccs); form and weights of the last two are the
less certain part. All are computed in float32, at the features' size.

B batch, D features, K classes, H W the labels' size, h w the features' size, N = h w.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prunekit.models.ccs import CcsTerms

# Both from the development code, 2021-01-31: smaller regions say little, more classes cost memory there.
MIN_PIXELS = 4
MAX_CLASSES = 16


@dataclass(frozen=True)
class CcsLosses:
    """Scalars, each to be weighted by the recipe."""

    coarse: Tensor
    inter: Tensor
    intra: Tensor


def ccs_losses(terms: CcsTerms, labels_BHW: Tensor, ignore_index: int) -> CcsLosses:
    """Return the three losses; labels are sampled at the pixel nearest to each feature's centre."""
    with torch.autocast(terms.features_BDhw.device.type, enabled=False):
        labels_BN = labels_at(terms, labels_BHW, ignore_index).flatten(1)
        members_BKN = _members(labels_BN, terms.centres_BKD.shape[1], ignore_index)
        centres_BKD = terms.centres_BKD.float()
        return CcsLosses(
            coarse=_coarse_loss(terms.coarse_BKhw.float().flatten(2), labels_BN, ignore_index),
            inter=inter_loss(centres_BKD, members_BKN.any(dim=2)),
            intra=intra_loss(terms.features_BDhw.float().flatten(2), centres_BKD, members_BKN),
        )


def labels_at(terms: CcsTerms, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """Return labels_Bhw: padded as the images were (ignored there), then the pixel at each feature's centre."""
    height, width = labels_BHW.shape[-2:]
    below, right = max(terms.height - height, 0), max(terms.width - width, 0)
    padded_BHW = F.pad(labels_BHW, (0, right, 0, below), value=ignore_index)
    rows_h = _nearest(terms.features_BDhw.shape[-2], padded_BHW.shape[-2], labels_BHW.device)
    columns_w = _nearest(terms.features_BDhw.shape[-1], padded_BHW.shape[-1], labels_BHW.device)
    return padded_BHW[:, rows_h[:, None], columns_w]


def inter_loss(centres_BKD: Tensor, present_BK: Tensor) -> Tensor:
    """Push apart the centres of the classes in an image, by p_ij = softmax_j <c_i, c_j> over all classes j.

    mean over present i of (1 - p_ii), less log of the mean over present i of p_ii; averaged over the images that
    hold a class, 0 if none does.
    """
    similarity_BKK = centres_BKD @ centres_BKD.transpose(1, 2)
    own_BK = similarity_BKK.softmax(dim=2).diagonal(dim1=1, dim2=2)
    counts_B = present_BK.sum(dim=1)
    # An image without labels has no mean: it is given 1, whose loss (1 - 1) - log 1 is 0.
    own_B = torch.where(counts_B > 0, (own_BK * present_BK).sum(dim=1) / counts_B.clamp(min=1), 1.0)
    # The clamp keeps the gradient finite where a softmax underflows.
    losses_B = (1 - own_B) - own_B.clamp(min=1e-12).log()
    return losses_B.sum() / (counts_B > 0).sum().clamp(min=1)


def intra_loss(features_BDN: Tensor, centres_BKD: Tensor, members_BKN: Tensor) -> Tensor:
    """Pull the pixels of a class to its centre: 1 - 2 sum <x, c> / (sum |x|^2 + sum |c|^2), the centre held fixed.

    Mean over the (image, class) pairs with at least MIN_PIXELS pixels, the MAX_CLASSES largest of each image; 0 if
    there are none.
    """
    members_BKN = members_BKN.to(features_BDN.dtype)
    pixels_BK = members_BKN.sum(dim=2)
    centres_BKD = centres_BKD.detach()
    dots_BK = ((members_BKN @ features_BDN.transpose(1, 2)) * centres_BKD).sum(dim=2)
    squares_BK = (members_BKN @ features_BDN.square().sum(dim=1)[..., None])[..., 0]
    squares_BK = squares_BK + pixels_BK * centres_BKD.square().sum(dim=2)
    # All-zero features and centre are at distance 0 / 0; they are counted as 1 away, with no gradient.
    distances_BK = 1 - 2 * dots_BK / squares_BK.clamp(min=1e-12)
    counted_BK = _largest(pixels_BK)
    return (distances_BK * counted_BK).sum() / counted_BK.sum().clamp(min=1)


def _coarse_loss(logits_BKN: Tensor, labels_BN: Tensor, ignore_index: int) -> Tensor:
    losses = F.cross_entropy(logits_BKN, labels_BN, ignore_index=ignore_index, reduction="sum")
    return losses / (labels_BN != ignore_index).sum().clamp(min=1)


def _members(labels_BN: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    classes_K1 = torch.arange(num_classes, device=labels_BN.device)[:, None]
    return (labels_BN[:, None] == classes_K1) & (labels_BN[:, None] != ignore_index)


def _largest(pixels_BK: Tensor) -> Tensor:
    """Which classes of an image are counted."""
    kept = pixels_BK.topk(min(MAX_CLASSES, pixels_BK.shape[1]), dim=1).indices
    chosen_BK = torch.zeros_like(pixels_BK, dtype=torch.bool).scatter(1, kept, True)
    return chosen_BK & (pixels_BK >= MIN_PIXELS)


def _nearest(length: int, source: int, device: torch.device) -> Tensor:
    """Indices into `source` positions of the centres of `length` equal cells (half-pixel geometry)."""
    return (2 * torch.arange(length, device=device) + 1) * source // (2 * length)
