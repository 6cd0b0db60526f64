"""Rules for data movement: run on the ids themselves, with a look at what is split or picked."""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from prunekit.pruning.ids import NONE, compress, nothing, reshaped, varies, view_blocks
from prunekit.pruning.interpreter import Interpreter, Rule, Weight


def moved(ctx: Interpreter, *args: object, **kwargs: object) -> object:
    """Run the op itself on the ids: permute, transpose, expand, cat, stack, squeeze, ..."""
    assert ctx.node is not None
    real_args, real_kwargs = (
        _as_ids(ctx, args),
        {k: v for k, v in kwargs.items() if k not in ("dtype", "device", "layout")},
    )
    result = ctx.node.target(*real_args, **real_kwargs)  # type: ignore[operator]
    return tuple(compress(r) for r in result) if isinstance(result, (tuple, list)) else compress(result)


def _as_ids(ctx: Interpreter, args: Sequence[object]) -> list[Any]:
    convert: Callable[[object], object] = lambda v: ctx.ids_of(v) if isinstance(v, (Tensor, Weight)) else v  # noqa: E731
    return [[convert(v) for v in a] if isinstance(a, (list, tuple)) else convert(a) for a in args]


def passed(ctx: Interpreter, x: object, *_: object, **__: object) -> Tensor:
    """The same values in the same places: dropout, contiguous, type conversion."""
    return ctx.ids_of(x)


def picked(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
    """select, slice, narrow, unbind: a part of a dimension; of a channel dimension, by positions that do not follow."""
    dim = kwargs.get("dim", args[0] if args else 0)
    ids = _stays_along(ctx, ctx.ids_of(x), [dim], whole=True)
    return moved(ctx, ids, *args, **kwargs)


def reordered(index: int) -> Rule:
    """Make a rule for ops that shift or flip the dimensions given as argument `index`."""

    def rule(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
        dims = kwargs.get("dims", args[index] if len(args) > index else list(range(ctx.ids_of(x).dim())))
        ids = _stays_along(ctx, ctx.ids_of(x), [dims] if isinstance(dims, int) else dims)
        return moved(ctx, ids, *args, **kwargs)

    return rule


def _stays_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int], *, whole: bool = False) -> Tensor:
    """Freeze `ids` if an op picks or moves channels by position; `whole` allows an op that returns all of them."""
    ids = ctx.resolved(ids)
    if any(varies(ids, d % ids.dim()) for d in dims) and not (whole and tuple(ids.shape) == ctx.shape):
        ctx.space.freeze(ids, "is picked or moved by a position written in the network's code")
    return ids


def looked_up(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
    """index_select, gather, index: places picked by computed positions."""
    ids = ctx.resolved(ctx.ids_of(x))
    first: Any = args[0]
    dims = [first] if isinstance(first, int) else [d for d, index in enumerate(first) if index is not None]
    if any(varies(ids, d % ids.dim()) for d in dims):
        ctx.space.freeze(ids, "is picked by computed positions")
        return nothing(ctx.shape)
    # Positions carry no ids: as zeros they pick the first place, which stands for all places of a constant dimension.
    return moved(ctx, ids, *_positions(args), **kwargs)


def _positions(args: Sequence[Any]) -> list[Any]:
    return [
        [None if v is None else torch.zeros(v.shape, dtype=torch.int64) for v in a]
        if isinstance(a, (list, tuple))
        else torch.zeros(a.shape, dtype=torch.int64)
        if isinstance(a, Tensor)
        else a
        for a in args
    ]


def padded(ctx: Interpreter, x: Tensor, pad: Sequence[int], *_: object, **__: object) -> Tensor:
    """Pad: new places hold no channel when padding channels, the channel itself when padding space."""
    ids = x
    for step in range(len(pad) // 2):
        dim = x.dim() - 1 - step
        before, after = int(pad[2 * step]), int(pad[2 * step + 1])
        if not (before or after):
            continue
        # A single channel does not vary; by torch's convention channels are dimension 1 of a batch.
        if varies(ids, dim) or (dim == 1 and ids.shape[dim] == 1):
            ctx.assume(ids)
            ids = _pad_with_nothing(ids, dim, before, after)
        else:
            core = ids.narrow(dim, 0, 1)
            ids = core.expand(*ids.shape[:dim], ids.shape[dim] + before + after, *ids.shape[dim + 1 :])
    return compress(ids)


def _pad_with_nothing(ids: Tensor, dim: int, before: int, after: int) -> Tensor:
    if before < 0 or after < 0:
        ids = ids.narrow(dim, max(-before, 0), ids.shape[dim] - max(-before, 0) - max(-after, 0))
    parts = [_block(ids, dim, max(before, 0)), ids, _block(ids, dim, max(after, 0))]
    return torch.cat([part for part in parts if part.shape[dim]], dim=dim)


def _block(ids: Tensor, dim: int, length: int) -> Tensor:
    shape = list(ids.shape)
    shape[dim] = length
    return torch.full((1,), NONE, dtype=torch.int32).expand(shape) if length else ids.narrow(dim, 0, 0)


def viewed(ctx: Interpreter, x: object, *_: object, **__: object) -> Tensor:
    """View, reshape, flatten, unflatten: a channel dimension that is split keeps the same positions in every part."""
    ids = ctx.ids_of(x)
    for outs, ins in view_blocks(tuple(ids.shape), ctx.shape):
        if len(outs) > 1 and any(varies(ids, d) for d in ins):
            ids = _split(ctx, ids, ins, [ctx.shape[d] for d in outs])
    return reshaped(ids, ctx.shape)


def _split(ctx: Interpreter, ids: Tensor, ins: Sequence[int], parts: Sequence[int]) -> Tensor:
    """Handle one part of a view that makes several dimensions of some, channels among them."""
    ids = ctx.resolved(ids)
    varying = [d for d in ins if varies(ids, d)]
    if len(varying) != 1:
        ctx.space.freeze(ids, "is rearranged in a way that mixes channels and places")
        return ids
    ctx.assume(ids)
    inner = math.prod(ids.shape[d] for d in ins if d > varying[0])
    if not _cuts_through(inner, inner * ids.shape[varying[0]], parts):
        return ids
    if any(ids.shape[d] > 1 for d in ins if d != varying[0]):
        ctx.space.freeze(ids, "is rearranged in a way that mixes channels and places")
        return ids
    return _tie_parts(ctx, ids, varying[0], [part for part in parts if part > 1])


def _cuts_through(low: int, high: int, parts: Sequence[int]) -> bool:
    """Tell whether a border between two new dimensions lies inside the channels, which fill strides low to high."""
    borders = itertools.accumulate(reversed(parts), operator.mul)
    return any(low < border < high for border in borders)


def _tie_parts(ctx: Interpreter, ids: Tensor, dim: int, parts: Sequence[int]) -> Tensor:
    """Tie the same positions of every part; a part that repeats one channel needs no tie."""
    split = compress(ids.unflatten(dim, tuple(parts)))
    moving = [d for d in range(dim, dim + len(parts)) if varies(split, d)]
    for d in moving[:-1]:
        first = split.narrow(d, 0, 1).expand_as(split)
        ctx.space.unite(first, split)
        split = first
    return split.reshape(ids.shape)


def parted(ctx: Interpreter, x: object, sizes: object, dim: int = 0) -> object:
    """chunk, split, split_with_sizes: equal parts keep the same positions, unequal ones stay whole."""
    ids = ctx.ids_of(x)
    dim %= ids.dim()
    if not varies(ids, dim):
        return moved(ctx, ids, sizes, dim)
    assert ctx.node is not None
    lengths = [value.shape[dim] for value in ctx.node.meta["val"]]
    if len(set(lengths)) > 1:
        ctx.space.freeze(ids, "is split into unequal parts by sizes written in the network's code")
        return moved(ctx, ids, sizes, dim)
    ctx.assume(ids)
    parts = [ids.narrow(dim, k * lengths[0], lengths[0]) for k in range(len(lengths))]
    for part in parts[1:]:
        ctx.space.unite(parts[0], part)
    return tuple(compress(part) for part in parts)
