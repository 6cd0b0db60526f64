"""Carrying a pruning plan out: slices of parameters and buffers, attributes of modules, and the proof of equality."""

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.errors import PruneError
from prunekit.pruning.plan import Plan, Slice

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def pruned(module: nn.Module, plan: Plan) -> nn.Module:
    """Return a pruned copy; `module` stays as it is.

    Raises:
        PruneError: the plan does not fit the network.
    """
    return prune_(copy.deepcopy(module), plan)


def prune_(module: nn.Module, plan: Plan) -> nn.Module:
    """Prune `module` in place and return it; on an error it is left unchanged.

    Raises:
        PruneError: the plan names a parameter the network lacks or one of another size.
    """
    tensors = _tensors(module)
    replaced = _sliced(tensors, plan)
    for layer in plan.groups:
        _layer(module, layer)
    by_identity = {id(tensors[name]): value for name, value in replaced.items()}
    for owner in list(module.modules()):
        _replace(owner, by_identity)
    for name, groups in plan.groups.items():
        layer = _layer(module, name)
        setattr(layer, "num_groups" if isinstance(layer, nn.GroupNorm) else "groups", groups)
    for owner in module.modules():
        _refresh_attributes(owner)
    return module


def masked(module: nn.Module, plan: Plan) -> nn.Module:
    """Return a dense copy in which every removed position is zero: what the pruned network must equal."""
    dense = copy.deepcopy(module)
    tensors = _tensors(dense)
    with torch.no_grad():
        for row in plan.slices:
            tensor = _checked(tensors, row)
            if row.parameter.endswith("running_var"):
                continue  # a variance of zero would divide by epsilon; scale, shift and mean are zero already
            gone = torch.ones(row.width, dtype=torch.bool)
            gone[torch.tensor(row.keep)] = False
            tensor.index_fill_(row.dim, gone.nonzero().flatten().to(tensor.device), 0)
    return dense


def exactness(module: nn.Module, plan: Plan, example_inputs: tuple[Any, ...]) -> float:
    """Return the largest difference between the pruned and the masked network, relative to the largest output.

    Both run in evaluation mode and without gradients. Zero means equal to the last bit.
    """
    with torch.no_grad():
        expected = _leaves(masked(module, plan).eval()(*example_inputs))
        got = _leaves(pruned(module, plan).eval()(*example_inputs))
    worst = 0.0
    for want, have in zip(expected, got, strict=True):
        if want.shape != have.shape:
            raise PruneError(f"The pruned network returns {tuple(have.shape)} where {tuple(want.shape)} is due.")
        scale = max(float(want.abs().max()), 1e-12)
        worst = max(worst, float((want - have).abs().max()) / scale)
    return worst


def _leaves(outputs: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by every name they have, tied ones included."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _checked(tensors: dict[str, Tensor], row: Slice) -> Tensor:
    tensor = tensors.get(row.parameter)
    if tensor is None:
        raise PruneError(
            f"The plan cuts {row.parameter}, which this network does not have. It was made for another network."
        )
    if row.dim >= tensor.dim() or tensor.shape[row.dim] != row.width:
        raise PruneError(
            f"The plan expects {row.parameter} to have {row.width} positions in dimension {row.dim}; "
            f"its shape is {tuple(tensor.shape)}. It was made for another network."
        )
    return tensor


def _sliced(tensors: dict[str, Tensor], plan: Plan) -> dict[str, Tensor]:
    replaced: dict[str, Tensor] = {}
    for row in plan.slices:
        tensor = _checked(tensors, row)
        keep = torch.tensor(row.keep, device=tensor.device)
        replaced[row.parameter] = replaced.get(row.parameter, tensor.detach()).index_select(row.dim, keep)
    for name, value in replaced.items():
        if isinstance(tensors[name], nn.Parameter):
            replaced[name] = nn.Parameter(value, requires_grad=tensors[name].requires_grad)
    return replaced


def _replace(owner: nn.Module, by_identity: dict[int, Tensor]) -> None:
    for name, value in _own_tensors(owner):
        if id(value) in by_identity:
            setattr(owner, name, by_identity[id(value)])


def _own_tensors(owner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from list(owner.named_parameters(recurse=False, remove_duplicate=False))
    yield from list(owner.named_buffers(recurse=False, remove_duplicate=False))


def _layer(module: nn.Module, name: str) -> Any:
    try:
        layer = module.get_submodule(name)
    except AttributeError:
        raise PruneError(
            f"The plan names layer {name}, which this network does not have. It was made for another network."
        ) from None
    if not isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.GroupNorm)):
        raise PruneError(f"The plan sets the groups of {name}, but a {type(layer).__name__} has none.")
    return layer


def _refresh_attributes(owner: nn.Module) -> None:
    """Make the size attributes of a module say what its tensors are."""
    layer = cast(Any, owner)
    if isinstance(owner, _CONVOLUTIONS):
        layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    elif isinstance(owner, _TRANSPOSED):
        layer.in_channels, layer.out_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    elif isinstance(owner, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(owner, nn.modules.batchnorm._NormBase):  # pyright: ignore[reportPrivateUsage]  no public base
        tensor = layer.weight if layer.weight is not None else layer.running_mean
        layer.num_features = layer.num_features if tensor is None else tensor.shape[0]
    elif isinstance(owner, nn.GroupNorm) and owner.affine:
        layer.num_channels = layer.weight.shape[0]
    elif isinstance(owner, nn.PReLU):
        layer.num_parameters = layer.weight.shape[0]
