"""Rules for pooling, resizing, reductions: what happens to a channel over space and over channels."""

from collections.abc import Sequence

from torch import Tensor

from prunekit.pruning.ids import nothing, varies
from prunekit.pruning.interpreter import Interpreter


def spatial(ctx: Interpreter, x: Tensor, *_: object, **__: object) -> object:
    """Pooling and resizing: a channel stays a channel at every place of the new size."""
    assert ctx.node is not None
    value = ctx.node.meta["val"]
    shape = ctx.shape
    changed = [d for d in range(x.dim()) if x.shape[d] != shape[d]]
    ids = ctx.settle(x, x.dim() - min([*changed, x.dim() - 1])).expand(shape)
    return tuple(ids for _ in value) if isinstance(value, (tuple, list)) else ids


def reduction(ctx: Interpreter, x: object, dim: object = None, *_: object, **kwargs: object) -> object:
    """Mean, max and their kind: over space they keep the channel, over channels they consume it."""
    assert ctx.node is not None
    ids = ctx.ids_of(x)
    chosen = kwargs.get("dim", dim)
    dims = [chosen] if isinstance(chosen, int) else list(chosen) if isinstance(chosen, (tuple, list)) else []
    dims = sorted(d % ids.dim() for d in dims) or list(range(ids.dim()))
    freeze_along(ctx, ids, dims, "is reduced together with other channels")
    for d in dims:
        ids = nothing(ids.narrow(d, 0, 1).shape) if varies(ids, d) else ids.narrow(d, 0, 1)
    value = ctx.node.meta["val"]
    ids = ids.reshape(ctx.shape)
    return tuple(ids for _ in value) if isinstance(value, (tuple, list)) else ids


def softmax(ctx: Interpreter, x: Tensor, dim: int, *_: object, **__: object) -> Tensor:
    """Softmax and cumulative ops along `dim`: channels there depend on each other and stay."""
    freeze_along(ctx, x, [dim % x.dim()], "is normalised together with other channels")
    return x


def freeze_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int] | range, reason: str) -> None:
    """Freeze `ids` if they name channels along one of `dims`."""
    if any(varies(ids, d) for d in dims):
        ctx.space.freeze(ids, reason)
