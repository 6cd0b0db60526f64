"""Batch norms folded into the convolutions (plain, transposed) and linear layers before them.

In evaluation mode a batch norm is y = (x - mean) s + shift with s = weight / sqrt(var + eps), a scale and an offset a
channel, which the layer before takes into its weight and bias.
"""

import copy

import torch
from torch import Tensor, nn

from prunekit.equality.compare import compare
from prunekit.errors import FoldError
from prunekit.folding.adjacency import NORMS, PRODUCERS, adjacent_pairs


def fold_batch_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[nn.Module, list[str]]:
    """Return a copy in evaluation mode with batch norms folded, and the names of those; the module does not change.

    A batch norm is folded if it directly reads a layer's output and nothing else does; the others stay. `inputs` are
    run to see that, and to prove the copy equal: in the module's precision, or else in float64, since a batch norm of
    a small variance magnifies roundings.

    Raises:
        FoldError: the folded copy differs from the module by more than 1e-4 of the largest output and rounding does
            not explain that, or nothing can be proved.
    """
    original = copy.deepcopy(module).eval()
    pairs = adjacent_pairs(original, inputs)
    folded = _folded(original, pairs)
    _check_equal(original, pairs, inputs)
    return folded, [norm_name for _, norm_name in pairs]


def _folded(original: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    folded = copy.deepcopy(original)
    for producer_name, norm_name in pairs:
        _fold_pair_(folded, producer_name, norm_name)
    return folded


@torch.no_grad()
def _fold_pair_(module: nn.Module, producer_name: str, norm_name: str) -> None:
    producer, norm = module.get_submodule(producer_name), module.get_submodule(norm_name)
    assert isinstance(producer, PRODUCERS)
    assert isinstance(norm, NORMS)
    scale_O, shift_O = scale_and_shift(norm)
    weight = producer.weight.double()
    bias_O = torch.zeros_like(shift_O) if producer.bias is None else producer.bias.double()
    producer.weight = _parameter(_scaled(producer, weight, scale_O), producer.weight)
    producer.bias = _parameter(bias_O * scale_O + shift_O, producer.weight)
    module.set_submodule(norm_name, nn.Identity())


def scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm) -> tuple[Tensor, Tensor]:
    """Return float64 (scale_O, shift_O) such that the batch norm is x scale + shift in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_O = (norm.running_var.double() + norm.eps).rsqrt()
    scale_O = scale_O if not norm.affine else scale_O * norm.weight.double()
    shift_O = -norm.running_mean.double() * scale_O
    return scale_O, shift_O if not norm.affine else shift_O + norm.bias.double()


def _scaled(producer: nn.Module, weight: Tensor, scale_O: Tensor) -> Tensor:
    if not isinstance(producer, nn.ConvTranspose2d):
        return weight * scale_O.reshape(-1, *[1] * (weight.ndim - 1))
    # A transposed convolution's weight is (inputs, outputs of one group, height, width), its inputs sorted by group.
    by_group = weight.reshape(producer.groups, -1, *weight.shape[1:])
    return (by_group * scale_O.reshape(producer.groups, 1, -1, 1, 1)).reshape(weight.shape)


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like.dtype), requires_grad=like.requires_grad)


def _check_equal(original: nn.Module, pairs: list[tuple[str, str]], inputs: tuple[Tensor, ...]) -> None:
    def pair(wide: bool) -> tuple[nn.Module, nn.Module]:
        source = copy.deepcopy(original)
        source = source.double() if wide else source
        return source, _folded(source, pairs)

    compared = compare(pair, inputs)
    if not compared.equal:
        raise FoldError(
            f"The network with its batch norms folded is not proved equal to the network. {compared.why()} "
            "Export without folding and report the network."
        )
