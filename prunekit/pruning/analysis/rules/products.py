"""Rules for products of activations: matmul, einsum and attention, all seen as one contraction over named axes."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.rules.elementwise import pointwise
from prunekit.pruning.analysis.rules.space import tied_along
from prunekit.pruning.analysis.walk.ids import is_nothing, nothing, varies
from prunekit.pruning.analysis.walk.interpreter import Computed, Interpreter, RawCost, Weight

_ROWS, _INNER, _COLUMNS = "m", "k", "n"
_BATCH = "abcdefgh"
_NOT_ZERO = "is summed over in a product, where a removed channel would not be zero"


def product(ctx: Interpreter, a: object, b: object) -> Tensor:
    """matmul, bmm, mm, mv: the last axis of the left meets the last but one of the right."""
    left, right = ctx.ids_of(a), ctx.ids_of(b)
    return contraction(ctx, [left, right], *_matmul_axes(left.dim(), right.dim()))


def added_product(ctx: Interpreter, bias: object, a: object, b: object, **_: object) -> Tensor:
    """addmm, baddbmm: a product plus a term of the same shape."""
    return pointwise(ctx, product(ctx, a, b), bias)


def einsum(ctx: Interpreter, equation: str, operands: Sequence[object], **_: object) -> Tensor:
    """Einsum without ellipsis; one with ellipsis freezes its operands."""
    ids = [ctx.ids_of(operand) for operand in operands]
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    repeated = any(len(set(letters)) != len(letters) for letters in inputs)
    if not arrow or "." in equation or repeated:
        for operand in ids:
            ctx.space.freeze(operand, f"is used by einsum {equation}, which the analysis does not follow")
        return nothing(ctx.shape)
    return contraction(ctx, ids, inputs, right)


def _matmul_axes(left: int, right: int) -> tuple[list[str], str]:
    """Name the axes of a matmul of operands with these numbers of dimensions."""
    batch = _BATCH[: max(left, right) - 2] if max(left, right) > 2 else ""
    rows, columns = (_ROWS if left > 1 else ""), (_COLUMNS if right > 1 else "")
    of_left = (batch[len(batch) - (left - 2) :] if left > 2 else "") + rows + _INNER
    of_right = (batch[len(batch) - (right - 2) :] if right > 2 else "") + _INNER + columns
    return [of_left, of_right], batch + rows + columns


def contraction(ctx: Interpreter, operands: Sequence[Tensor], inputs: Sequence[str], output: str) -> Tensor:
    """Tie what meets along each axis; of several axes of the result that bring channels, the widest stays free.

    Args:
        ctx: the walk.
        operands: ids of each operand.
        inputs: one letter per dimension of each operand.
        output: one letter per dimension of the result.
    """
    along: dict[str, Tensor] = {}
    pairs = [(ctx.resolved(ids), letters) for ids, letters in zip(operands, inputs, strict=True)]
    for ids, letters in sorted(pairs, key=lambda pair: len(_varying(pair[0]))):
        for letter, found in _channel_axes(ctx, _tied_to(ctx, ids, letters, along), letters):
            if letter in along:
                ctx.space.unite(along[letter], found)
            along[letter] = torch.maximum(along[letter], found) if letter in along else found
    _freeze_spread(ctx, operands, inputs, along)
    _freeze_sums(ctx, inputs, output, along)
    _charge(ctx, operands, inputs, along)
    widest = max((letter for letter in output if letter in along), key=lambda a: len(along[a]), default="")
    for letter in output:
        if letter in along and letter != widest:
            ctx.space.freeze(along[letter], "meets other channels in a product")
    if not widest:
        return nothing(ctx.shape)
    shape = [1] * len(output)
    shape[output.index(widest)] = -1
    return along[widest].reshape(shape).expand(ctx.shape)


def _freeze_spread(
    ctx: Interpreter, operands: Sequence[Tensor], inputs: Sequence[str], along: dict[str, Tensor]
) -> None:
    """Freeze an axis whose channels meet values that are there for any number of channels: drawn, or one repeated."""
    for ids, letters in zip(operands, inputs, strict=True):
        for dim, letter in enumerate(letters):
            spread = letter in along and ids.shape[dim] > 1 and not varies(ids, dim)
            if spread and not is_nothing(ids) and not ctx.space.is_constant(ids):
                ctx.space.unite(ids.flatten()[:1].expand_as(along[letter]), along[letter])


def _freeze_sums(ctx: Interpreter, inputs: Sequence[str], output: str, along: dict[str, Tensor]) -> None:
    """Freeze an axis that is summed over where no factor is zero at a masked channel."""
    assert ctx.node is not None
    nodes = [leaf for leaf in pytree.tree_leaves(ctx.node.args) if isinstance(leaf, Node)][-len(inputs) :]
    for letter, ids in along.items():
        factors = [node for node, letters in zip(nodes, inputs, strict=True) if letter in letters]
        if letter not in output and not any(ctx.zeros.kept(node) for node in factors if node not in ctx.constants):
            ctx.space.freeze(ids, _NOT_ZERO)


def _varying(ids: Tensor) -> list[int]:
    return [dim for dim in range(ids.dim()) if varies(ids, dim)]


def _tied_to(ctx: Interpreter, ids: Tensor, letters: str, along: dict[str, Tensor]) -> Tensor:
    """Tie a learnt matrix, which brings an id per element, to the channels it is multiplied with."""
    if len(_varying(ids)) < 2:
        return ids
    for dim, letter in enumerate(letters):
        if letter in along and varies(ids, dim):
            shape = [1] * ids.dim()
            shape[dim] = -1
            ctx.space.unite(along[letter].reshape(shape).expand_as(ids), ids)
    return ctx.resolved(ids)


def _channel_axes(ctx: Interpreter, ids: Tensor, letters: str) -> list[tuple[str, Tensor]]:
    """Return the axes that channels run along, with their ids; freeze an operand where they run along two."""
    dims = _varying(ids)
    if len(dims) > 1:
        ctx.space.freeze(ids, "runs along two axes of a product")
        return []
    if not dims and not is_nothing(ids):
        # One channel everywhere: it is a factor of the whole result.
        ctx.space.freeze(ids, "is multiplied into everything as a single channel")
    return [(letters[dim], ctx.channels(ids, dim)) for dim in dims]


def _charge(ctx: Interpreter, operands: Sequence[Tensor], inputs: Sequence[str], along: dict[str, Tensor]) -> None:
    """Record the MACs: the product of all axes, those with channels by their ids."""
    lengths: dict[str, int] = {}
    for ids, letters in zip(operands, inputs, strict=True):
        for letter, length in zip(letters, ids.shape, strict=True):
            lengths[letter] = max(lengths.get(letter, 1), length)
    places = int(np.prod([length for letter, length in lengths.items() if letter not in along]))
    ctx.costs.append(RawCost(ctx.layer, places, tuple(along.values())))


def attention(ctx: Interpreter, *args: object, **kwargs: object) -> Tensor:
    """scaled_dot_product_attention: query and key positions go together; the built-in scale forbids cutting them."""
    named = ctx.bound(*args, **kwargs)
    q, k, v = (ctx.resolved(ctx.ids_of(named[name])) for name in ("query", "key", "value"))
    if named["attn_mask"] is not None:
        ctx.space.freeze(ctx.ids_of(named["attn_mask"]), "is added to the scores of an attention product")
    for ids in (q, k, v):
        if any(varies(ids, dim) for dim in range(ids.dim() - 1)):
            ctx.space.freeze(ids, "runs along an attention's heads or positions")
    ids_q, ids_k, ids_v = ctx.channels(q, -1), ctx.channels(k, -1), ctx.channels(v, -1)
    ctx.space.unite(ids_q, ids_k)
    assert ctx.node is not None
    if not any(isinstance(node, Node) and ctx.zeros.kept(node) for node in ctx.node.args[:2]):
        ctx.space.freeze(ids_q, _NOT_ZERO)
        ctx.space.freeze(ids_k, _NOT_ZERO)
    if named["scale"] is None:
        ctx.space.freeze(ids_q, "sets the scale of an attention product")
        ctx.space.freeze(ids_k, "sets the scale of an attention product")
    pairs = int(np.prod(q.shape[:-1])) * k.shape[-2]
    ctx.costs += [RawCost(ctx.layer, pairs, (ids_q,)), RawCost(ctx.layer, pairs, (ids_v,))]
    return ids_v.expand(ctx.shape)


def embedding(ctx: Interpreter, weight: object, indices: object, *_: object, **__: object) -> Tensor:
    """Look-up of learnt vectors: the last axis makes channels."""
    ctx.space.freeze(ctx.ids_of(indices), "is used as positions")
    if not isinstance(weight, (Weight, Computed)):
        ctx.space.freeze(cast(Tensor, weight), "is looked up by positions")
        return nothing(ctx.shape)
    return ctx.slot(weight, 1, "out", ctx.space.fresh((weight.shape[1],))).expand(ctx.shape)


def sampled(ctx: Interpreter, x: object, grid: object, *_: object, **__: object) -> Tensor:
    """grid_sample: values move over places, a channel stays one; the two coordinates cannot be cut."""
    ctx.space.freeze(ctx.ids_of(grid), "holds the coordinates of grid_sample")
    ids = ctx.ids_of(x)
    ids = tied_along(ctx, ids, range(2, ids.dim()), "is resampled together with other channels")
    return ctx.settle(ids, ids.dim() - 2).expand(ctx.shape)
