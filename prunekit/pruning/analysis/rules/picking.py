"""Rules for ops that pick, split, write or reorder by position: along space they are free, along channels rarely."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from prunekit.pruning.analysis.rules.movement import moved
from prunekit.pruning.analysis.walk.arguments import bound
from prunekit.pruning.analysis.walk.ids import compress, is_nothing, nothing, shrunk, varies
from prunekit.pruning.analysis.walk.interpreter import Interpreter, Rule, Weight

_BY_POSITION = "is picked or moved by a position written in the network's code"
_BY_VALUE = "is picked by computed positions"
_SPLIT_DIMS = {"hsplit": 1, "vsplit": 0, "dsplit": 2}


def picked(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
    """select, slice, narrow, unbind: a part of a dimension; of a channel dimension, by positions that do not follow."""
    dim = ctx.bound(x, *args, **kwargs)["dim"]
    ids = ctx.resolved(ctx.ids_of(x))
    dim %= ids.dim()
    parts = _equal_slices(ctx, dim) if varies(ids, dim) else 0
    ids = _tied_parts(ctx, ids, dim, parts) if parts > 1 else _stays_along(ctx, ids, [dim], whole=True)
    return moved(ctx, ids, *args, **kwargs)


def _equal_slices(ctx: Interpreter, dim: int) -> int:
    """Return in how many equal parts the slices of the same tensor split `dim` together; 0 if they do not."""
    assert ctx.node is not None
    source = ctx.node.args[0]
    assert isinstance(source, Node)
    own = _interval(ctx.node, dim)
    if own is None or source.meta["val"].shape[dim] % (own[1] - own[0]):
        return 0
    step = own[1] - own[0]
    parts = source.meta["val"].shape[dim] // step
    found = {_interval(user, dim) for user in source.users}
    return parts if found.issuperset((k * step, (k + 1) * step) for k in range(parts)) else 0


def _interval(node: Node, dim: int) -> tuple[int, int] | None:
    """Return the positions of `dim` that a slice of it returns, if they lie side by side."""
    if node.op != "call_function" or str(node.target) not in ("aten.slice.Tensor", "aten.narrow.default"):
        return None
    named = bound(node.target, node.args, node.kwargs)
    source = named["self"].meta["val"]
    if named["dim"] % source.dim() != dim or named.get("step", 1) != 1:
        return None
    start = named["start"] or 0
    length = source.shape[dim]
    start = min(max(start + length if start < 0 else start, 0), length)
    end = start + node.meta["val"].shape[dim]
    return (start, end) if end > start else None


def _tied_parts(ctx: Interpreter, ids: Tensor, dim: int, parts: int) -> Tensor:
    """Tie the same positions of equal parts, and return all parts by the ids of the first."""
    ctx.assume(ids)
    split = ids.unflatten(dim, (parts, -1))
    first = split.narrow(dim, 0, 1).expand_as(split)
    ctx.space.unite(*shrunk(first, split))
    return compress(first.reshape(ids.shape))


def parted(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
    """chunk, split, tensor_split: equal parts keep the same positions, unequal ones stay whole."""
    ids = ctx.ids_of(x)
    named = ctx.bound(x, *args, **kwargs)
    dim = named.get("dim", _SPLIT_DIMS.get(ctx.op, 0)) % ids.dim()
    if ctx.op == "hsplit" and ids.dim() == 1:
        dim = 0
    assert ctx.node is not None
    lengths = [value.shape[dim] for value in ctx.node.meta["val"]]
    if varies(ids, dim) and len(set(lengths)) > 1:
        ctx.space.freeze(ids, "is split into unequal parts by sizes written in the network's code")
    elif varies(ids, dim):
        ids = _tied_parts(ctx, ids, dim, len(lengths))
    return tuple(compress(part) for part in ids.split(lengths, dim))


def gated(ctx: Interpreter, x: object, dim: int = -1) -> Tensor:
    """GLU: one half, gated by the other."""
    ids = ctx.resolved(ctx.ids_of(x))
    dim %= ids.dim()
    half = ids.shape[dim] // 2
    if varies(ids, dim):
        ids = _tied_parts(ctx, ids, dim, 2)
    return compress(ids.narrow(dim, 0, half))


def reordered(argument: str) -> Rule:
    """Make a rule for ops that shift or flip the dimensions that `argument` names."""

    def rule(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
        ids = ctx.ids_of(x)
        dims = ctx.bound(x, *args, **kwargs)[argument] or range(ids.dim())  # roll without dims: of the flat tensor
        ids = _stays_along(ctx, ids, [dims] if isinstance(dims, int) else dims)
        return moved(ctx, ids, *args, **kwargs)

    return rule


def scattered(ctx: Interpreter, x: object, src: object, *args: Any, **kwargs: Any) -> object:
    """slice_scatter, select_scatter: a tensor with a part written anew; along channels, by positions."""
    ids, written = ctx.resolved(ctx.ids_of(x)), ctx.resolved(ctx.ids_of(src))
    dim = ctx.bound(x, src, *args, **kwargs)["dim"] % ids.dim()
    if varies(ids, dim) or (written.dim() == ids.dim() and varies(written, dim)):
        ctx.space.freeze(ids, _BY_POSITION)
        ctx.space.freeze(written, _BY_POSITION)
    return moved(ctx, ids, written, *args, **kwargs)


def _stays_along(ctx: Interpreter, ids: Tensor, dims: Sequence[int] | range, *, whole: bool = False) -> Tensor:
    """Freeze `ids` if an op picks or moves channels by position; `whole` allows an op that returns all of them."""
    ids = ctx.resolved(ids)
    if any(varies(ids, d % ids.dim()) for d in dims) and not (whole and tuple(ids.shape) == ctx.shape):
        ctx.space.freeze(ids, _BY_POSITION)
    return ids


def looked_up(ctx: Interpreter, x: object, *args: Any, **kwargs: Any) -> object:
    """index_select, index: places picked by computed positions, the same for all channels."""
    ids = ctx.resolved(ctx.ids_of(x))
    first: Any = args[0]
    for index in [first, *args[1:]] if isinstance(first, int) else first:
        if isinstance(index, Tensor) and not is_nothing(index):
            ctx.space.freeze(index, "is used as positions")
    dims = [first] if isinstance(first, int) else [d for d, index in enumerate(first) if index is not None]
    if any(varies(ids, d % ids.dim()) for d in dims):
        ctx.space.freeze(ids, _BY_VALUE)
        return nothing(ctx.shape)
    # Positions carry no ids: as zeros they pick the first place, which stands for all places of a constant dimension.
    return moved(ctx, ids, *_positions(args), **kwargs)


def gathered(ctx: Interpreter, x: object, dim: int, index: object, **_: object) -> Tensor:
    """Gather: each channel picks its own places, so the positions go together with what they pick."""
    ids, places = ctx.resolved(ctx.ids_of(x)), ctx.ids_of(index)
    dim %= ids.dim()
    if varies(ids, dim):
        ctx.space.freeze(ids, _BY_VALUE)
    if any(varies(ids, d) and ids.shape[d] != places.shape[d] for d in range(ids.dim())):
        ctx.space.freeze(ids, _BY_POSITION)
    core = ids.narrow(dim, 0, 1).expand(*ids.shape[:dim], places.shape[dim], *ids.shape[dim + 1 :])
    for d in range(ids.dim()):
        core = core.narrow(d, 0, places.shape[d])
    ctx.space.unite(core, places)
    return core if is_nothing(places) else compress(torch.maximum(core, places))


def _positions(args: Sequence[Any]) -> list[Any]:
    return [[_zeros(v) for v in a] if isinstance(a, (list, tuple)) else _zeros(a) for a in args]


def _zeros(value: Any) -> Any:
    return torch.zeros(value.shape, dtype=torch.int64) if isinstance(value, (Tensor, Weight)) else value
