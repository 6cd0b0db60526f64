"""Rules for element-wise ops: the channels that meet are tied."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prunekit.pruning.ids import is_nothing, merged, nothing, varies
from prunekit.pruning.interpreter import Interpreter, Weight


def pointwise(ctx: Interpreter, *args: object, **kwargs: object) -> Tensor:
    """Element-wise op with broadcasting: the ids that meet are tied."""
    operands = [ctx.ids_of(v) for v in (*args, *kwargs.values()) if isinstance(v, (Tensor, Weight))]
    shape = torch.broadcast_shapes(*(ids.shape for ids in operands))
    wide = [ids.reshape((1,) * (len(shape) - ids.dim()) + tuple(ids.shape)) for ids in operands]
    wide = [_unless_spread(ctx, ids, wide) for ids in wide]
    result = nothing(shape)
    for ids in wide:
        ids = ids.expand(shape)
        ctx.space.unite(result, ids)
        result = ids if is_nothing(result) else result if is_nothing(ids) else merged(result, ids)
    return result


def _unless_spread(ctx: Interpreter, ids: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Freeze an operand that is broadcast over another's channels: a spatial gate, a scalar per image."""
    for dim, length in enumerate(ids.shape):
        if length == 1 and any(varies(other, dim) for other in others) and not is_nothing(ids):
            ctx.space.freeze(ids, "is spread over all channels of another tensor")
            return nothing(ids.shape)
    return ids
