"""Adaptive average pooling that is right at every size: a product with windows that follow the size of the image.

ONNX has no such operator, and torch's exporter writes the windows of the traced size. Bin i of k covers the places from
floor(i s / k) up to ceil((i + 1) s / k) of s, as torch has it, so that a mean over bins is a product with a matrix
(k, s) of zeros and one over the bin's length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class SizedPooling(TorchFunctionMode):
    """While it is active, average pooling to more than one bin is written as products."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what `func` would, from windows where it pools to bins."""
        del types
        given = kwargs or {}
        if getattr(func, "__name__", "") == "adaptive_avg_pool2d":
            images, bins = _arguments(*args, **given)
            if bins != (1, 1):
                return pooled(images, *bins)
        return func(*args, **given)


def pooled(images: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """Return the means over `rows` x `columns` bins of images (..., h, w); None keeps that side."""
    height, width = images.shape[-2:]
    if rows is not None:
        images = _windows(height, rows, images) @ images
    return images if columns is None else images @ _windows(width, columns, images).transpose(0, 1)


def _windows(size: int, bins: int, like: Tensor) -> Tensor:
    """Return (bins, size) of the images' type: one over the bin's length inside a bin, 0 elsewhere."""
    index_k1 = torch.arange(bins, device=like.device)[:, None]
    # Whole numbers from 0 on, where truncating is rounding down.
    first_k1 = torch.div(index_k1 * size, bins, rounding_mode="trunc")
    end_k1 = torch.div((index_k1 + 1) * size + bins - 1, bins, rounding_mode="trunc")
    place_1s = torch.arange(size, device=like.device)[None]
    inside_ks = (place_1s >= first_k1) & (place_1s < end_k1)
    return inside_ks.to(like.dtype) / (end_k1 - first_k1).to(like.dtype)


def _arguments(input: Tensor, output_size: Any) -> tuple[Tensor, tuple[int | None, int | None]]:
    if isinstance(output_size, int):
        return input, (output_size, output_size)
    rows, columns = output_size
    return input, (rows, columns)
