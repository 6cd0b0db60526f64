"""Rules for pooling, resizing, reductions: what happens to a channel over space and over channels."""

import re
from collections.abc import Sequence

from torch import Tensor

from prunekit.pruning.analysis.rules.elementwise import pointwise
from prunekit.pruning.analysis.walk.ids import is_nothing, nothing, varies, without_repeats
from prunekit.pruning.analysis.walk.interpreter import Interpreter

_POOLED = "is pooled together with other channels"


def spatial(ctx: Interpreter, x: object, *rest: object, **__: object) -> object:
    """Pooling, resizing, padding by what is there: a channel stays a channel at every place of the new size."""
    ids = ctx.ids_of(x)
    for draws in rest:  # fractional pooling takes its random places as an argument
        if isinstance(draws, Tensor) and not is_nothing(draws):
            ctx.space.freeze_drawn(draws)
            ctx.space.freeze_drawn(ids)
    return ctx.like_output(_over_places(ctx, ids, _places(ctx)).expand(ctx.shape))


def unpooled(ctx: Interpreter, x: object, indices: object, *_: object, **__: object) -> Tensor:
    """max_unpool: values return to the places of their own channel's indices, so the two go together."""
    ids = ctx.ids_of(x)
    ctx.space.unite(ids, ctx.ids_of(indices))
    return _over_places(ctx, ids, _places(ctx)).expand(ctx.shape)


def _places(ctx: Interpreter) -> int:
    """Return how many dimensions an op pools: its name says so ("max_pool2d")."""
    found = re.search(r"([123])d", ctx.op)
    assert found is not None
    return int(found[1])


def _over_places(ctx: Interpreter, ids: Tensor, places: int) -> Tensor:
    """Return `ids` with length 1 along the last `places` dimensions."""
    dims = range(ids.dim() - places, ids.dim())
    ids = tied_along(ctx, ids, dims, _POOLED)
    if any(varies(ids, d) for d in dims):
        return nothing((*ids.shape[:-places], *([1] * places)))
    return ctx.settle(ids, places)


def columns(ctx: Interpreter, x: object, *_: object, **__: object) -> Tensor:
    """im2col (unfold): each channel becomes as many rows as the kernel has places."""
    rows = ctx.channels(ctx.ids_of(x), -3)
    return rows.repeat_interleave(ctx.shape[-2] // len(rows))[:, None].expand(ctx.shape)


def folded(ctx: Interpreter, x: object, *_: object, **__: object) -> Tensor:
    """col2im (fold): the rows of a channel's kernel places are summed, so they go together."""
    rows_CP = ctx.channels(ctx.ids_of(x), -2).reshape(ctx.shape[-3], -1)  # C channels, P places of the kernel
    ctx.space.unite(rows_CP[:, :1].expand_as(rows_CP), rows_CP)
    return rows_CP[:, :1, None].expand(ctx.shape)


def reduction(ctx: Interpreter, x: object, *args: object, **kwargs: object) -> object:
    """Mean, max and their kind: over space they keep the channel, over channels they consume it."""
    named = ctx.bound(x, *args, **kwargs)
    if "other" in named:  # max(a, b)
        return pointwise(ctx, x, named["other"])
    ids = ctx.ids_of(x)
    chosen = named.get("dim")
    dims = [chosen] if isinstance(chosen, int) else list(chosen) if isinstance(chosen, (tuple, list)) else []
    dims = sorted(d % ids.dim() for d in dims) or list(range(ids.dim()))
    ids = tied_along(ctx, ids, dims, "is reduced together with other channels")
    for d in dims:
        ids = nothing(ids.narrow(d, 0, 1).shape) if varies(ids, d) else ids.narrow(d, 0, 1)
    return ctx.like_output(ids.reshape(ctx.shape))


def softmax(ctx: Interpreter, x: object, *args: object, **kwargs: object) -> object:
    """Softmax, sorting and running sums along `dim`: what stands there depends on each other."""
    ids = ctx.ids_of(x)
    dim = ctx.bound(x, *args, **kwargs)["dim"] % ids.dim()
    ids = tied_along(ctx, ids, [dim], "is normalised together with other channels")
    if tuple(ids.shape) != ctx.shape:  # topk is shorter
        ids = ids.narrow(dim, 0, ctx.shape[dim])
    return ctx.like_output(ids)


def renormalised(ctx: Interpreter, x: object, *args: object, **kwargs: object) -> Tensor:
    """Renorm: each position of `dim` is scaled by its own norm, over all others."""
    ids = ctx.ids_of(x)
    dim = ctx.bound(x, *args, **kwargs)["dim"] % ids.dim()
    others = [d for d in range(ids.dim()) if d != dim]
    return tied_along(ctx, ids, others, "is normalised together with other channels")


def tied_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int] | range, reason: str) -> Tensor:
    """Handle an op that mixes what stands along `dims`.

    Branches that each bring all channels (a softmax over two branches) go together, position by position; a channel
    dimension by itself is frozen.
    """
    ids = ctx.resolved(ids)
    mixed = [d for d in dims if varies(ids, d)]
    if not mixed:
        return ids
    if not any(varies(ids, d) for d in range(ids.dim()) if d not in dims):
        ctx.space.freeze(ids, reason)
        return ids
    for d in mixed:
        core = without_repeats(ids)
        top = core.max(dim=d, keepdim=True).values
        ctx.space.unite(top.expand_as(core), core)
        ids = top.expand(ids.shape)
    return ids


def freeze_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int] | range, reason: str) -> None:
    """Freeze `ids` if they name channels along one of `dims`."""
    if any(varies(ids, d) for d in dims):
        ctx.space.freeze(ids, reason)
