"""Float64 throughout, whatever a network's code says, and choices that a rounding cannot turn.

Two networks that are equal in exact arithmetic may differ as much as they like in floating point: where two values
differ by less than a rounding, a max-pooling takes one place in this network and another in that one, and an unpooling
or a gather makes it seen. Float64 alone does not settle this, since values that are equal in exact arithmetic (a flat
region behind an attention) differ by roundings in any precision. So choices are made on values rounded to a grid that
is coarser than float64's roundings; what is handed on are the values themselves.
"""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}

# By name, since not every release of torch has each. Values with a place for each, in the last dimensions, flat:
_POOLS = {
    "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3,
    "adaptive_max_pool2d": 2,
    "adaptive_max_pool3d": 3,
    "fractional_max_pool2d": 2,
    "fractional_max_pool3d": 3,
}
# Values with a place for each along `dim`, in the overload that takes one.
_ALONG = {
    *("max.dim", "min.dim", "median.dim", "nanmedian.dim", "kthvalue", "mode", "topk", "sort", "sort.stable"),
    *("cummax", "cummin"),
}
# What jumps where its operands pass a value: places, flags, whole numbers, and what is left beside those.
_STEPS = {
    *("argmax", "argmin", "argsort", "bucketize", "searchsorted", "nonzero", "histc", "is_nonzero"),
    *("gt", "ge", "lt", "le", "eq", "ne", "sign", "sgn", "signbit", "heaviside"),
    *("floor", "ceil", "round", "trunc", "frac", "floor_divide", "remainder", "fmod"),
    *("logical_not", "logical_and", "logical_or", "logical_xor"),
}
_NEAREST = 1  # of the modes of grid_sampler


class Wide(TorchDispatchMode):
    """Run what is inside in float64, casts and new tensors included, with choices that a rounding cannot turn."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        # The first: of control flow. The second reads the bits of a number, and converts none.
        if not isinstance(func, OpOverload) or func is torch.ops.aten.view.dtype:
            return func(*args, **named)
        whole = _is_whole(named.get("dtype"))
        named = {key: _WIDE.get(value, value) if key == "dtype" else value for key, value in named.items()}
        if not _schema(func).is_mutable:  # what is written to must be the tensor itself
            args, named = pytree.tree_map_only(Tensor, _widened, (args, named))
        overload = func.name().removeprefix("aten::")
        name = overload.partition(".")[0]
        if name in _POOLS:
            return _pooled(func, args, named, _POOLS[name])
        if overload in _ALONG:
            return _chosen(func, args, named)
        if name.endswith("_") and name[:-1] in _STEPS:
            args[0].copy_(steady(args[0]))
        jumps = name in _STEPS or (name == "_to_copy" and whole) or named.get("rounding_mode") is not None
        if jumps or (name.startswith("grid_sampler") and args[2] == _NEAREST):
            args, named = pytree.tree_map_only(Tensor, steady, (args, named))
        return pytree.tree_map_only(Tensor, _widened, func(*args, **named))


def steady(values: Tensor) -> Tensor:
    """Return float64 values on a grid of 24 significant bits and 2^-40: what differs by a float64 rounding is equal."""
    if values.dtype != torch.float64:
        return values
    return (values.mul(2.0**40).round() * 2.0**-40).to(torch.float32).to(torch.float64)


def _schema(func: OpOverload) -> Any:
    return func._schema  # pyright: ignore[reportPrivateUsage]  no public view of it


def _widened(tensor: Tensor) -> Tensor:
    wide = _WIDE.get(tensor.dtype)
    return tensor if wide is None else tensor.to(wide)


def _is_whole(dtype: torch.dtype | None) -> bool:
    return dtype is not None and not dtype.is_floating_point and not dtype.is_complex


def _pooled(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], spatial: int) -> Any:
    values = args[0]
    where = func(steady(values), *args[1:], **kwargs)[1]
    picked = values.flatten(-spatial).gather(-1, where.flatten(-spatial)).view(where.shape)
    return picked, where


def _chosen(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Choose along one dimension by steady values; hand on the values themselves."""
    values = args[0]
    where = func(steady(values), *args[1:], **kwargs)[1]
    arguments = _schema(func).arguments
    place = next(index for index, argument in enumerate(arguments) if argument.name == "dim")
    dim = args[place] if place < len(args) else kwargs.get("dim", arguments[place].default_value)
    if not values.dim():
        return values.clone(), where
    whole = where if where.dim() == values.dim() else where.unsqueeze(dim)
    picked = values.gather(dim, whole)
    return (picked if where.dim() == values.dim() else picked.squeeze(dim)), where
