"""Rules for pooling, resizing, reductions: what happens to a channel over space and over channels."""

from collections.abc import Sequence

from torch import Tensor

from prunekit.pruning.ids import nothing, varies
from prunekit.pruning.interpreter import Interpreter


def spatial(ctx: Interpreter, x: Tensor, *_: object, **__: object) -> object:
    """Pooling and resizing: a channel stays a channel at every place of the new size."""
    shape = ctx.shape
    changed = [d for d in range(x.dim()) if x.shape[d] != shape[d]]
    return ctx.like_output(ctx.settle(x, x.dim() - min([*changed, x.dim() - 1])).expand(shape))


def unpooled(ctx: Interpreter, x: Tensor, indices: Tensor, *_: object, **__: object) -> Tensor:
    """max_unpool: values return to the places of their own channel's indices, so the two go together."""
    ctx.space.unite(x, indices)
    return ctx.settle(x, x.dim() - 2).expand(ctx.shape)


def columns(ctx: Interpreter, x: Tensor, *_: object, **__: object) -> Tensor:
    """im2col (unfold): each channel becomes as many rows as the kernel has places."""
    rows = ctx.channels(x, 1)
    return rows.repeat_interleave(ctx.shape[1] // len(rows))[None, :, None].expand(ctx.shape)


def folded(ctx: Interpreter, x: Tensor, *_: object, **__: object) -> Tensor:
    """col2im (fold): the rows of a channel's kernel places are summed, so they go together."""
    rows_CP = ctx.channels(x, 1).reshape(ctx.shape[1], -1)  # C channels, P places of the kernel
    ctx.space.unite(rows_CP[:, :1].expand_as(rows_CP), rows_CP)
    return rows_CP[None, :, :1, None].expand(ctx.shape)


def reduction(ctx: Interpreter, x: object, dim: object = None, *_: object, **kwargs: object) -> object:
    """Mean, max and their kind: over space they keep the channel, over channels they consume it."""
    ids = ctx.ids_of(x)
    chosen = kwargs.get("dim", dim)
    dims = [chosen] if isinstance(chosen, int) else list(chosen) if isinstance(chosen, (tuple, list)) else []
    dims = sorted(d % ids.dim() for d in dims) or list(range(ids.dim()))
    ids = tied_along(ctx, ids, dims, "is reduced together with other channels")
    for d in dims:
        ids = nothing(ids.narrow(d, 0, 1).shape) if varies(ids, d) else ids.narrow(d, 0, 1)
    return ctx.like_output(ids.reshape(ctx.shape))


def softmax(ctx: Interpreter, x: Tensor, dim: int = -1, *_: object, **__: object) -> object:
    """Softmax, sorting and running sums along `dim`: what stands there depends on each other."""
    ids = tied_along(ctx, x, [dim % x.dim()], "is normalised together with other channels")
    if tuple(ids.shape) != ctx.shape:  # topk is shorter
        ids = ids.narrow(dim, 0, ctx.shape[dim % x.dim()])
    return ctx.like_output(ids)


def tied_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int], reason: str) -> Tensor:
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
        first = ids.narrow(d, 0, 1).expand_as(ids)
        ctx.space.unite(first, ids)
        ids = first
    return ids


def freeze_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int] | range, reason: str) -> None:
    """Freeze `ids` if they name channels along one of `dims`."""
    if any(varies(ids, d) for d in dims):
        ctx.space.freeze(ids, reason)
