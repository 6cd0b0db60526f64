"""Quantisation-aware training: products see weights and inputs rounded to int8, as an int8 file will round them.

The rule is the export's: symmetric, a scale for each output channel of a weight and one for an input, no quantised
bias, nothing for layers whose numbers of channels do not suit int8, nor for the classifier. The gradient passes the
rounding unchanged (straight-through estimator, Bengio et al. 2013, arXiv 1308.3432). An input's scale is that of its
own batch, so there is nothing to save: weights and checkpoints are those of any training, and the export calibrates.
Batch norms need not be folded first: they multiply an output channel, and with it the channel's scale. Not seen are
products inside other functions of torch, such as the projections of nn.MultiheadAttention.

B batch, C input channels, O output channels, H height, W width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LEVELS: Final = 127
# Int8 kernels work on vectors of channels; below these the export leaves a layer in fp16.
MIN_CHANNELS: Final = 16
CHANNEL_STEP: Final = 8
_SMALLEST, _LARGEST = 2.0**-24, 65504.0  # scales that an int8 file can hold, which are of fp16

_Size = int | Sequence[int]


class FakeInt8(TorchFunctionMode):
    """Context in which convolutions, transposed convolutions and linear layers compute on numbers that int8 has."""

    def __init__(self, num_classes: int) -> None:
        """Take a layer that gives `num_classes` channels for a classifier: its rounding would be the logits'."""
        super().__init__()
        self._classes = num_classes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, a product on rounded numbers."""
        given = kwargs or {}
        if func is torch.conv2d:
            return self._conv2d(*args, **given)
        if func is torch.conv_transpose2d:
            return self._conv_transpose2d(*args, **given)
        if func is F.linear:
            return self._linear(*args, **given)
        return func(*args, **given)

    # torch's own names of arguments, since users call by name
    def _conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Size = 1,
        padding: str | _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
    ) -> Tensor:
        if self._is_int8(weight.shape[1] * groups, weight.shape[0], groups):
            input, weight = rounded(input), rounded(weight, 0)
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)

    def _conv_transpose2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Size = 1,
        padding: _Size = 0,
        output_padding: _Size = 0,
        groups: int = 1,
        dilation: _Size = 1,
    ) -> Tensor:
        if self._is_int8(weight.shape[0], weight.shape[1] * groups, groups):
            input, weight = rounded(input), rounded(weight, 1)
        return torch.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.dim() == 2 and self._is_int8(weight.shape[1], weight.shape[0], 1):
            input, weight = rounded(input), rounded(weight, 0)
        return F.linear(input, weight, bias)

    def _is_int8(self, channels_in: int, channels_out: int, groups: int) -> bool:
        return channels_out != self._classes and suits_int8(channels_in, channels_out, groups)


def suits_int8(channels_in: int, channels_out: int, groups: int = 1) -> bool:
    """Say whether the export writes a product of so many channels in int8."""
    steps = channels_in % CHANNEL_STEP == 0 and channels_out % CHANNEL_STEP == 0
    return steps and (groups > 1 or min(channels_in, channels_out) >= MIN_CHANNELS)


def rounded(values: Tensor, axis: int | None = None) -> Tensor:
    """Return the nearest of 255 levels, symmetric about 0 up to the largest magnitude; the gradient passes unchanged.

    The step between levels is the 127th part of that magnitude, rounded up to a number of fp16 as in the file.

    Args:
        values: of any shape.
        axis: has a scale for each of its indices; None is one scale for all.
    """
    with torch.no_grad():
        # Under autocast inputs have 16 bits, too few for the scale.
        exact = values if values.dtype == torch.float64 else values.float()
        dims = [dim for dim in range(values.dim()) if dim != axis]
        largest = exact.abs().amax() if axis is None else exact.abs().amax(dims, keepdim=True)
        scale = _half_up(largest / LEVELS)
        error = (exact / scale).round_().mul_(scale).sub_(exact)
    return values + error.to(values.dtype)


def _half_up(scale: Tensor) -> Tensor:
    """Return the next numbers of fp16 from positive scales up, in their own type."""
    wanted = scale.float().clamp(_SMALLEST, _LARGEST)
    nearest = wanted.half()
    above = (nearest.view(torch.int16) + 1).view(torch.float16)  # positive numbers of fp16 are ordered as their bits
    return torch.where(nearest.float() < wanted, above, nearest).to(scale.dtype)
