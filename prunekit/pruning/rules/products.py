"""Rules for products of activations: matmul and attention."""

import numpy as np
import torch
from torch import Tensor

from prunekit.pruning.ids import is_nothing, nothing, varies
from prunekit.pruning.interpreter import Interpreter, RawCost


def product(ctx: Interpreter, a: object, b: object) -> Tensor:
    """matmul, bmm, mm: the contracted channels go together; if both sides bring channels, one side stays."""
    left, right = ctx.ids_of(a), ctx.ids_of(b)
    if left.dim() < 2 or right.dim() < 2:
        ctx.space.freeze(left, "is multiplied with a vector")
        ctx.space.freeze(right, "is multiplied with a vector")
        return nothing(ctx.shape)
    k_left, k_right = _contracted(ctx, left, -1), _contracted(ctx, right, -2)
    ctx.space.unite(k_left, k_right)
    rows, columns = _free_axis(ctx, left, -1), _free_axis(ctx, right, -2)
    if not is_nothing(rows) and not is_nothing(columns):
        fewer = rows if rows.numel() <= columns.numel() else columns
        ctx.space.freeze(fewer, "meets other channels in a product")
        rows, columns = (nothing(rows.shape), columns) if fewer is rows else (rows, nothing(columns.shape))
    outer = int(np.prod(ctx.shape[:-2]))
    lengths = tuple(
        torch.zeros(n, dtype=torch.int32) if is_nothing(i) else i
        for i, n in ((rows, ctx.shape[-2]), (columns, ctx.shape[-1]))
    )
    ctx.costs.append(RawCost(ctx.layer, outer, (*lengths, torch.maximum(k_left, k_right))))
    return (columns if is_nothing(rows) else rows[:, None]).expand(ctx.shape)


def _contracted(ctx: Interpreter, ids: Tensor, axis: int) -> Tensor:
    """Ids along the contracted axis; none where it runs over places that are summed up."""
    return ctx.channels(ids, axis) if varies(ids, ids.dim() + axis) else nothing((ids.shape[axis],))


def _free_axis(ctx: Interpreter, ids: Tensor, contracted: int) -> Tensor:
    """Ids along the axis that stays, seen at the first contracted place only: the contracted ones are consumed."""
    axis = -2 if contracted == -1 else -1
    if varies(ids, ids.dim() + contracted):
        if varies(ids, ids.dim() + axis):
            ctx.space.freeze(ids, "meets other channels in a product")
        return nothing((ids.shape[axis],))
    return ctx.channels(ids, axis)


def attention(ctx: Interpreter, q: Tensor, k: Tensor, v: Tensor, *_: object, **kwargs: object) -> Tensor:
    """scaled_dot_product_attention: query and key positions go together; the built-in scale forbids cutting them."""
    ids_q, ids_k = ctx.channels(q, -1), ctx.channels(k, -1)
    ctx.space.unite(ids_q, ids_k)
    if kwargs.get("scale") is None:
        ctx.space.freeze(ids_q, "sets the scale of an attention product")
        ctx.space.freeze(ids_k, "sets the scale of an attention product")
    for ids in (q, k, v):
        if any(varies(ids, d) for d in range(ids.dim() - 1)):
            ctx.space.freeze(ids, "runs along an attention's heads or positions")
    ids_v = ctx.channels(v, -1)
    outer = int(np.prod(q.shape[:-2])) * q.shape[-2] * k.shape[-2]
    ctx.costs += [RawCost(ctx.layer, outer, (ids_q,)), RawCost(ctx.layer, outer, (ids_v,))]
    return ids_v.expand(ctx.shape)
