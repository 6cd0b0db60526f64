"""How far two networks' logits are apart.

B batch, K classes, H W size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunekit.equality.compare import relative_error


@dataclass(frozen=True)
class Difference:
    """Largest error relative to the largest logit of the same batch, and the share of pixels with the same label."""

    max_relative_error: float
    label_agreement: float


@torch.no_grad()
def difference(reference: nn.Module, other: nn.Module, batches: Iterable[Tensor]) -> Difference:
    """Run both on every batch of images_B3HW; both must be in evaluation mode."""
    error, agreeing, pixels = 0.0, 0, 0
    for images_B3HW in batches:
        wanted_BKHW, got_BKHW = reference(images_B3HW), other(images_B3HW)
        error = max(error, relative_error(wanted_BKHW, got_BKHW))
        same_BHW = wanted_BKHW.argmax(dim=1) == got_BKHW.argmax(dim=1)
        agreeing, pixels = agreeing + int(same_BHW.sum()), pixels + same_BHW.numel()
    return Difference(error, agreeing / max(pixels, 1))
