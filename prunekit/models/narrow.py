"""Keeps torch from overwriting memory in the backward pass of narrow strided 1x1 convolutions on a CPU.

oneDNN, which torch computes CPU convolutions with, books too little room for the gradient of such a convolution's
weight where its images lie channels last (https://github.com/uxlfoundation/oneDNN/issues/6035): with fewer input
channels than its kernel takes at a time, 8 with AVX2 and 16 with AVX-512, it writes past the end. The process dies of
a damaged heap, or goes on with other tensors changed. With the images contiguous it is right, so these convolutions
get them contiguous, whatever layout their network has: narrow networks, image pyramids, permuted activations.

B batch, C input channels, O output channels, H height, W width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_WIDEST: Final = 16  # channels that oneDNN's widest kernel with this fault takes at a time


class NarrowConvolutionsContiguous(TorchFunctionMode):
    """Context in which strided 1x1 convolutions of few channels compute on contiguous copies; backward pass included.

    Values and gradients are those of the same convolution; all others keep their layout.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, a narrow convolution on contiguous copies."""
        if func is torch.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,  # torch's own names, since users call by name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    if _is_narrow(input, weight, stride):
        # clone, since contiguous() takes a 1x1 weight or a single channel for contiguous in either layout
        input = input.clone(memory_format=torch.contiguous_format)
        weight = weight.clone(memory_format=torch.contiguous_format)
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _is_narrow(images_BCHW: Tensor, weight_OC11: Tensor, stride: int | Sequence[int]) -> bool:
    return (
        images_BCHW.device.type == "cpu"
        and weight_OC11.dim() == 4
        and tuple(weight_OC11.shape[2:]) == (1, 1)
        and weight_OC11.shape[1] < _WIDEST
        and (stride if isinstance(stride, int) else max(stride)) > 1
    )
