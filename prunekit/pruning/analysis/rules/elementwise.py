"""Rules for element-wise ops: the channels that meet are tied."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prunekit.pruning.analysis.walk.ids import is_nothing, merged, nothing, varies
from prunekit.pruning.analysis.walk.interpreter import Computed, Interpreter, Weight


def pointwise(ctx: Interpreter, *args: object, **kwargs: object) -> Tensor:
    """Element-wise op with broadcasting: the ids that meet are tied."""
    operands = [ctx.ids_of(v) for v in (*args, *kwargs.values()) if isinstance(v, (Tensor, Weight, Computed))]
    shape = torch.broadcast_shapes(*(ids.shape for ids in operands))
    wide = [ids.reshape((1,) * (len(shape) - ids.dim()) + tuple(ids.shape)) for ids in operands]
    wide = [_unless_alike(ctx, ids, wide) for ids in wide]
    wide = [_unless_spread(ctx, ids, wide) for ids in wide]
    result = nothing(shape)
    for ids in wide:
        ids = ids.expand(shape)
        ctx.space.unite(result, ids)
        result = ids if is_nothing(result) else result if is_nothing(ids) else merged(result, ids)
    return result


def like(ctx: Interpreter, x: object, *_: object, **__: object) -> Tensor:
    """zeros_like and its kind, fill: no values of x, but as many as x has channels."""
    ids = ctx.ids_of(x)
    return ids if any(varies(ids, d) for d in range(ids.dim())) else nothing(ids.shape)


def filled(ctx: Interpreter, x: object, value: object) -> Tensor:
    """Fill: one value, computed or not, for all channels of x."""
    if isinstance(value, (Tensor, Weight)):
        ctx.space.freeze(ctx.ids_of(value), "is spread over all channels of another tensor")
    return like(ctx, x)


def made(ctx: Interpreter, *_: object, **__: object) -> Tensor:
    """new_zeros and its kind: neither the values of x nor its channels."""
    return nothing(ctx.shape)


def _unless_alike(ctx: Interpreter, ids: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Drop a constant that is the same for all channels of another operand: a map over places."""
    carrying = [other for other in others if any(varies(other, d) for d in range(other.dim())) and other is not ids]
    if not carrying or not ctx.space.is_constant(ids):
        return ids
    meet = any(varies(ids, d) and varies(other, d) for other in carrying for d in range(ids.dim()))
    return ids if meet else nothing(ids.shape)


def _unless_spread(ctx: Interpreter, ids: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Freeze an operand that is broadcast over another's channels: a spatial gate, a scalar per image."""
    for dim, length in enumerate(ids.shape):
        if length == 1 and any(varies(other, dim) for other in others) and not is_nothing(ids):
            ctx.space.freeze(ids, "is spread over all channels of another tensor")
            return nothing(ids.shape)
    return ids
