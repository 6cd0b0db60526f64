"""The padding rule in torch: what a network that takes multiples of a stride computes at any size.

B batch, K classes, H W the images' size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from prunekit.models.segmenter import Segmenter

if TYPE_CHECKING:
    from torch import Tensor


class Padded(nn.Module):
    """`network` behind zeros at the bottom and right up to multiples of `stride`, its logits cropped there again."""

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits_BKHW."""
        height, width = images_B3HW.shape[-2:]
        padded_B3HW = F.pad(images_B3HW, (0, -width % self.stride, 0, -height % self.stride))
        return self.network(padded_B3HW)[..., :height, :width]


def at_any_size(network: nn.Module, stride: int) -> nn.Module:
    """Return what a file of open size must compute: the network itself where it pads, else the network padded."""
    return network if stride == 1 or isinstance(network, Segmenter) else Padded(network, stride)


def pads_itself(network: nn.Module, stride: int, height: int, width: int) -> bool:
    """Say whether `network` computes at sizes off the stride what `Padded` does: its own padding is the same rule.

    Args:
        network: on the CPU, in eval mode.
        stride: to try.
        height: of a size it takes [px], a multiple of the stride; sizes up to it are tried.
        width: as `height`.
    """
    padded = Padded(network, stride)
    sizes = ((height - 1, width - stride + 1), (height - stride // 2, width), (height, width - 1))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return all(_same(network, padded, torch.randn(2, 3, *size, generator=generator)) for size in sizes)


def _same(network: nn.Module, padded: nn.Module, images_B3HW: Tensor) -> bool:
    try:
        expected = network(images_B3HW)
    except (RuntimeError, ValueError, IndexError):  # how networks refuse a size
        return False
    got = padded(images_B3HW)
    return got.shape == expected.shape and bool((got - expected).abs().max() <= 1e-5 * expected.abs().max())
