"""Rules for data movement: run on the ids themselves, with a look at what is split or picked."""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from prunekit.pruning.analysis.walk.arguments import writes
from prunekit.pruning.analysis.walk.ids import NONE, compress, nothing, reshaped, varies, view_blocks
from prunekit.pruning.analysis.walk.interpreter import Interpreter, Weight

MIXED = "is rearranged in a way that mixes channels and places"
_COMPUTED = "is repeated a computed number of times"


def moved(ctx: Interpreter, *args: object, **kwargs: object) -> object:
    """Run the op itself on the ids: permute, transpose, expand, cat, stack, squeeze, ..."""
    assert ctx.node is not None
    real_args, real_kwargs = (
        _as_ids(ctx, args),
        {k: v for k, v in kwargs.items() if k not in ("dtype", "device", "layout")},
    )
    if writes(ctx.node.target):  # squeeze_ changes the shape of the very tensor it is given
        real_args[0] = torch.ops.aten.alias(real_args[0])
    result = ctx.node.target(*real_args, **real_kwargs)  # type: ignore[operator]
    return tuple(compress(r) for r in result) if isinstance(result, (tuple, list)) else compress(result)


def _as_ids(ctx: Interpreter, args: Sequence[object]) -> list[Any]:
    convert: Callable[[object], object] = lambda v: ctx.ids_of(v) if isinstance(v, (Tensor, Weight)) else v  # noqa: E731
    return [[convert(v) for v in a] if isinstance(a, (list, tuple)) else convert(a) for a in args]


def passed(ctx: Interpreter, x: object, *_: object, **__: object) -> Tensor:
    """The same values in the same places: dropout, contiguous, type conversion."""
    return ctx.ids_of(x)


def repeated(ctx: Interpreter, x: object, repeats: object, dim: int | None = None, **kwargs: object) -> object:
    """repeat_interleave: as often at every place, or a computed number of times."""
    if not isinstance(repeats, (Tensor, Weight)):
        return moved(ctx, x, repeats, dim, **kwargs)
    ids = ctx.resolved(ctx.ids_of(x))
    ctx.space.freeze(ctx.ids_of(repeats), _COMPUTED)
    if dim is None or varies(ids, dim % ids.dim()):
        ctx.space.freeze(ids, _COMPUTED)
        return nothing(ctx.shape)
    return ids.narrow(dim, 0, 1).expand(ctx.shape)


def shuffled(ctx: Interpreter, x: object, factor: int) -> object:
    """pixel_shuffle: the channels that become the places of one block go together."""
    ids = ctx.resolved(ctx.ids_of(x))
    block = factor**2
    if varies(ids, ids.dim() - 3):
        ctx.assume(ids)
        split = ids.unflatten(-3, (-1, block))
        ctx.space.unite(split.narrow(-3, 0, 1).expand_as(split), split)
    return moved(ctx, ids, factor)


def unshuffled(ctx: Interpreter, x: object, factor: int) -> object:
    """pixel_unshuffle: the places of a block become channels, each of them as often as the block has places."""
    ids = ctx.resolved(ctx.ids_of(x))
    if varies(ids, ids.dim() - 1) or varies(ids, ids.dim() - 2):
        ctx.space.freeze(ids, MIXED)
    return moved(ctx, ids, factor)


def interleaved(ctx: Interpreter, x: object, groups: int) -> object:
    """channel_shuffle: a view as groups, transposed; the same positions of every group go together."""
    ids = ctx.resolved(ctx.ids_of(x))
    if varies(ids, 1) and groups > 1:
        ctx.assume(ids)
        ids = _tie_parts(ctx, ids, 1, [groups, ids.shape[1] // groups])
    return moved(ctx, ids, groups)


def padded(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> Tensor:
    """Pad: new places hold no channel when padding channels, the channel itself when padding space."""
    ids = ctx.ids_of(x)
    named = ctx.bound(x, *args, **kwargs)
    pad = named["pad"]
    for step in range(len(pad) // 2):
        dim = ids.dim() - 1 - step
        before, after = int(pad[2 * step]), int(pad[2 * step + 1])
        if not (before or after):
            continue
        # A single channel does not vary; by torch's convention channels are dimension 1 of a batch.
        if varies(ids, dim) or (dim == 1 and ids.shape[dim] == 1):
            ctx.assume(ids)
            if named.get("mode", "constant") != "constant" or before < 0 or after < 0:
                ctx.space.freeze(
                    ids, "is padded or cropped along its channels by a length written in the network's code"
                )
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
        ctx.space.freeze(ids, MIXED)
        return ids
    ctx.assume(ids)
    inner = math.prod(ids.shape[d] for d in ins if d > varying[0])
    if not _cuts_through(inner, inner * ids.shape[varying[0]], parts):
        return ids
    if any(ids.shape[d] > 1 for d in ins if d != varying[0]):
        ctx.space.freeze(ids, MIXED)
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
