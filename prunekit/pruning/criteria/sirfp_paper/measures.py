"""What is measured on one batch of feature maps: how channels repeat each other, and how many edges they show.

Shapes: B batch, C channels, N places, H height, W width.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

L1_EPSILON = 1e-5
"""Added to each L1 norm (sirfp.md 1.2 b)."""


class Redundancy(Protocol):
    """How much the channels of a batch repeat each other."""

    def __call__(self, x_BCN: Tensor) -> Tensor:
        """Return [C, C], averaged over the batch."""
        ...


class Edges(Protocol):
    """How much the edges in each channel vary over the image."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return [C] for maps [B, C, ...], averaged over the batch."""
        ...


class L1Redundancy:
    """Inner products of L1-normalised maps, as published.

    The sign and the diagonal are kept; entries are of the order 1/N, so they shrink with the size of the map.
    Source: sirfp.md 1.2 b, a reading of the official code.
    """

    def __call__(self, x_BCN: Tensor) -> Tensor:
        """Return [C, C], averaged over the batch."""
        u_BCN = x_BCN / (x_BCN.abs().sum(dim=2, keepdim=True) + L1_EPSILON)
        return _mean_product(u_BCN)


class CosineRedundancy:
    """Inner products of L2-normalised maps: entries in -1..1 at every size of map, which L1 norms do not give.

    To be put in place of `L1Redundancy`; sirfp.md 1.4, items 2 and 4, say what depends on it.
    """

    def __call__(self, x_BCN: Tensor) -> Tensor:
        """Return [C, C], averaged over the batch."""
        return _mean_product(F.normalize(x_BCN, dim=2, eps=1e-12))


def _mean_product(u_BCN: Tensor) -> Tensor:
    """Return the mean over the batch of U U^T: one product of [C, B N], since sums over N and B are the same sum."""
    u_CM = u_BCN.transpose(0, 1).flatten(1)
    return u_CM @ u_CM.T / len(u_BCN)


class SobelEdge:
    """Standard deviation over the image of the Sobel magnitude, averaged over the batch.

    The kernel's value at offset (x, y) is x / (x^2 + y^2), its border padding is zero, and the deviation is that of the
    population, so a map of one place has none. Maps without an image plane are taken as images of height 1 (our
    reading; the official code has 2-D maps only). Source: sirfp.md 1.2 c, a reading of the official code.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return [C] for maps [B, C, ...], averaged over the batch."""
        batch, channels = x.shape[:2]
        height, width = (1, 1, *x.shape[2:])[-2:]
        maps_M1HW = x.reshape(-1, 1, height, width)
        kernels_2133 = sobel_kernels().to(x)
        slopes_M2HW = F.conv2d(maps_M1HW, kernels_2133, padding=1)
        magnitude_BCN = slopes_M2HW.square().sum(dim=1).sqrt().reshape(batch, channels, -1)
        return magnitude_BCN.std(dim=2, correction=0).mean(dim=0)


def sobel_kernels() -> Tensor:
    """Return [2, 1, 3, 3]: the slope along x and along y, x / (x^2 + y^2) and y / (x^2 + y^2), 0 in the middle."""
    offset = torch.arange(-1.0, 2.0)
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    squares = (x.square() + y.square()).clamp_min(1.0)  # only the middle, whose value is 0, has less
    return torch.stack([x / squares, y / squares])[:, None]
