"""torch.nn.functional.fold without the operator Col2Im, which TensorRT does not have.

Patches that neither overlap nor leave gaps are put side by side by reshaping. Others are added up by a transposed
convolution with one weight of 1 for each place of the patch: the same sums, by an operator that every runtime has.

N images, C channels, h w the image's size, k patch, b blocks along a side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Pair = int | Sequence[int]


class FoldedPatches(TorchFunctionMode):
    """While it is active, `fold` is computed by other operators."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what `func` would."""
        del types
        return (folded if func is F.fold else func)(*args, **(kwargs or {}))


def folded(
    input: Tensor,  # torch's own names, since users call by name
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Tensor:
    """Return images (N, C, h, w) as sums of patches (N, C k k, b b), as `torch.nn.functional.fold` does."""
    if input.dim() == 2:
        return folded(input[None], output_size, kernel_size, dilation, padding, stride)[0]
    size, kernel, gaps, border, step = map(_pair, (output_size, kernel_size, dilation, padding, stride))
    reach = [gap * (side - 1) + 1 for gap, side in zip(gaps, kernel, strict=True)]
    blocks = [(size[axis] + 2 * border[axis] - reach[axis]) // step[axis] + 1 for axis in (0, 1)]
    channels = input.shape[1] // (kernel[0] * kernel[1])
    if step == kernel and gaps == (1, 1) and border == (0, 0):
        parts = input.reshape(-1, channels, *kernel, *blocks).permute(0, 1, 4, 2, 5, 3)
        images = parts.reshape(-1, channels, blocks[0] * kernel[0], blocks[1] * kernel[1])
    else:
        patches = input.reshape(-1, channels * kernel[0] * kernel[1], *blocks)
        whole = _added(patches, channels, kernel, gaps, step)
        images = whole[:, :, border[0] : border[0] + size[0], border[1] : border[1] + size[1]]
    # What lies beyond the last whole block belongs to no patch.
    # While torch traces with open sizes, these are symbols.
    below, right = cast("tuple[Any, Any]", tuple(size[axis] - images.shape[2 + axis] for axis in (0, 1)))
    complete = isinstance(below, int) and isinstance(right, int) and not below and not right
    return images if complete else F.pad(images, (0, right, 0, below))


def _added(patches: Tensor, channels: int, kernel: tuple[int, int], gaps: Any, step: Any) -> Tensor:
    """Return the sums with the border."""
    places = kernel[0] * kernel[1]
    ones = torch.eye(places, dtype=patches.dtype, device=patches.device).reshape(places, 1, *kernel)
    weight = ones.repeat(channels, 1, 1, 1)
    return F.conv_transpose2d(patches, weight, stride=step, groups=channels, dilation=gaps)


def _pair(value: Pair) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int | torch.SymInt) else value
    return first, second
