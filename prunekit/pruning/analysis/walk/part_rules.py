"""What each op does to the parts of a weight that is computed on the way."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from prunekit.pruning.analysis.walk.arguments import bound
from prunekit.pruning.analysis.walk.ids import compress, reshaped, varies, without_repeats
from prunekit.pruning.analysis.walk.parts import Derivation, PartRule
from prunekit.pruning.analysis.walk.values import Computed, Part, Parts, Weight

_MIXED: Final = "is standardised together with other channels in a weight computed on the way"
_OTHER_NUMBERS: Final = (0.7, 1.3)
"""Stand for what is not removed when an op is asked what it makes of zeros."""


def _passed(walk: Derivation, value: Computed) -> Parts:
    return walk.of(value.args[0])


def _moved(walk: Derivation, value: Computed) -> Parts | None:
    """Permute, transpose, expand: the op itself, on the ids of each part."""
    given = walk.of(value.args[0])
    target = cast(Callable[..., Tensor], value.node.target)
    parts = [replace(p, ids=compress(target(p.ids, *value.args[1:], **value.kwargs))) for p in given.parts]
    return replace(given, parts=tuple(parts))


def _expanded(walk: Derivation, value: Computed) -> Parts:
    return replace(walk.of(value.args[0]), parts=tuple(walk.broadcast(value.args[0], value.shape)))


def _viewed(walk: Derivation, value: Computed) -> Parts:
    given = walk.of(value.args[0])
    parts = tuple(replace(part, ids=reshaped(part.ids, value.shape)) for part in given.parts)
    return replace(given, parts=parts)


def _padded(walk: Derivation, value: Computed) -> Parts | None:
    """Pad the places of a kernel; channels that are padded stay."""
    parts = []
    for part in walk.of(value.args[0]).parts:
        core = without_repeats(part.ids)
        if any(core.shape[d] > 1 and part.ids.shape[d] != value.shape[d] for d in range(core.dim())):
            return None
        parts.append(replace(part, ids=core.expand(value.shape)))
    return Parts(tuple(parts))


def _split(walk: Derivation, value: Computed) -> Parts | None:
    """One of the parts of a chunk or a split: the same positions of each go together."""
    whole, index = value.args
    if not isinstance(whole, Computed) or whole.op not in ("chunk", "split", "split_with_sizes", "unbind"):
        return _several(walk, value)
    lengths = [tuple(one.shape) for one in whole.node.meta["val"]]
    if whole.op == "unbind" or len(set(lengths)) > 1:
        return None
    dim = int(bound(whole.node.target, whole.args, whole.kwargs)["dim"])
    parts = []
    for part in walk.of(whole.args[0]).parts:
        length = int(whole.node.meta["val"][0].shape[dim])
        pieces = [part.ids.narrow(dim, number * length, length) for number in range(len(lengths))]
        for piece in pieces[1:]:
            walk.space.unite(pieces[0], piece)
        parts.append(replace(part, ids=compress(pieces[index])))
    return Parts(tuple(parts))


def _several(walk: Derivation, value: Computed) -> Parts | None:
    """One of the results of var_mean and its kind, which are shaped alike."""
    whole = value.args[0]
    return walk.of(whole) if isinstance(whole, Computed) and whole.op in ("var_mean", "std_mean") else None


def _pointwise(walk: Derivation, value: Computed) -> Parts | None:
    operands = [leaf for leaf in pytree.tree_leaves((value.args, value.kwargs)) if _is_tensor(leaf)]
    met = [walk.broadcast(operand, value.shape) for operand in operands]
    if any(_is_blocked(operand, value.shape, met) for operand in operands):
        return None
    tied: list[tuple[Part, tuple[bool, ...]]] = []
    for number, parts in enumerate(met):
        for part in parts:
            mate = next((k for k, (other, _) in enumerate(tied) if _same_dims(other.ids, part.ids)), None)
            zero = tuple(part.vanishes and k == number for k in range(len(operands)))
            if mate is None:
                tied.append((part, zero))
                continue
            other, zeros = tied[mate]
            if zeros[number]:
                return None  # two parts of one operand run along the same dimension
            walk.space.unite(other.ids, part.ids)
            both = tuple(a or b for a, b in zip(zeros, zero, strict=True))
            tied[mate] = (replace(other, sources=other.sources | part.sources), both)
    return Parts(tuple(replace(part, vanishes=_makes_zero(value, zeros)) for part, zeros in tied))


def _summed(walk: Derivation, value: Computed) -> Parts | None:
    """Sum and norm: zeros count for nothing, so that what is reduced can still be cut."""
    return _reduced(walk, value, lambda part: part.vanishes)


def _averaged(walk: Derivation, value: Computed) -> Parts | None:
    return _reduced(walk, value, lambda _: False)


def _reduced(walk: Derivation, value: Computed, can_lose: Callable[[Part], bool]) -> Parts | None:
    args, ids_shape = value.args, _shape(value.args[0])
    named = bound(value.node.target, args, value.kwargs)
    if "other" in named:  # max(a, b)
        return _pointwise(walk, value)
    given = named.get("dim")
    dims = [given] if isinstance(given, int) else list(given or range(len(ids_shape)))
    dims = sorted(d % len(ids_shape) for d in dims)
    parts = []
    for part in walk.of(args[0]).parts:
        if not any(varies(part.ids, d) for d in dims):
            ids = part.ids
            for d in dims:
                ids = ids.narrow(d, 0, 1)
            parts.append(replace(part, ids=ids.reshape(_reduced_shape(value))))
        elif not can_lose(part):
            walk.space.freeze(part.ids, _MIXED)
    return Parts(tuple(parts))


def _weight_norm(walk: Derivation, value: Computed) -> Parts | None:
    """Torch's weight normalisation of v, g and a dimension: every slice of v along it gets the length in g."""
    v, g = value.args[:2]
    dim = int(value.args[2]) if len(value.args) > 2 else 0
    if dim < 0:
        return Parts(walk.of(v).parts)
    lengths = next((p for p in walk.broadcast(g, value.shape) if varies(p.ids, dim)), None)
    if lengths is None or not lengths.vanishes:
        return None
    parts = []
    for part in walk.of(v).parts:
        if varies(part.ids, dim):
            walk.space.unite(part.ids, lengths.ids)
            # Where g is zero v may be anything but zero, which would be 0 / 0: `masked` leaves it.
            kept = isinstance(v, Weight) and v.name.endswith(".original1")
            part = replace(part, sources=part.sources | lengths.sources, vanishes=kept)
        parts.append(part)
    return Parts(tuple(parts))


def _normed(walk: Derivation, value: Computed) -> Parts | None:
    """batch_norm of a weight, by its own statistics: how scaled standardised convolutions are written."""
    x, scale, shift, mean, variance, training = value.args[:6]
    if mean is not None or variance is not None or not training or shift is not None:
        return None
    along = [part for part in walk.of(x).parts if varies(part.ids, 1)]
    for part in walk.of(x).parts:
        if not varies(part.ids, 1):
            walk.space.freeze(part.ids, _MIXED)
    if len(along) != 1 or not along[0].vanishes or _axes(along[0].ids) > 1:
        return None
    part = along[0]
    for other in walk.of(scale).parts:
        shape = [1] * len(value.shape)
        shape[1] = -1
        walk.space.unite(part.ids, other.ids.reshape(shape).expand(value.shape))
        part = replace(part, sources=part.sources | other.sources)
    return Parts((part,), _MIXED)


def _product(walk: Derivation, value: Computed) -> Parts | None:
    """mv, dot, mm of weights: what is summed over is tied, and lost where either side is zero."""
    left, right = walk.of(value.args[0]), walk.of(value.args[1])
    dims = len(_shape(value.args[0])), len(_shape(value.args[1]))
    if max(dims) > 2:
        return None
    of_left, of_right = dims[0] - 1, 0
    met = ((left, of_left), (right, of_right))
    lost = [[part for part in side.parts if varies(part.ids, dim)] for side, dim in met]
    if any(len(parts) != 1 for parts in lost) or any(_axes(part.ids) != 1 for parts in lost for part in parts):
        return None
    (a,), (b,) = lost
    if not (a.vanishes or b.vanishes):
        return None
    walk.space.unite(_vector(a.ids, of_left), _vector(b.ids, of_right))
    walk.followers |= a.sources | b.sources
    last = len(value.shape) - 1
    stays = [*((part, 0) for part in left.parts if part is not a), *((p, last) for p in right.parts if p is not b)]
    parts = []
    for part, dim in stays:
        shape = [1] * len(value.shape)
        shape[dim] = -1
        ids = _vector(part.ids, next(d for d in range(part.ids.dim()) if varies(part.ids, d)))
        parts.append(replace(part, ids=ids.reshape(shape).expand(value.shape)))
    return Parts(tuple(parts))


def _is_tensor(value: object) -> bool:
    return isinstance(value, (Tensor, Weight, Computed))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape)


def _reduced_shape(value: Computed) -> tuple[int, ...]:
    found = value.node.meta["val"]
    return tuple((found[0] if isinstance(found, (tuple, list)) else found).shape)


def _axes(ids: Tensor) -> int:
    return sum(varies(ids, dim) for dim in range(ids.dim()))


def _vector(ids: Tensor, dim: int) -> Tensor:
    return without_repeats(ids, keep=dim).reshape(-1)


def _same_dims(left: Tensor, right: Tensor) -> bool:
    return all(varies(left, d) == varies(right, d) for d in range(left.dim()))


def _is_blocked(operand: object, shape: Sequence[int], met: Sequence[Sequence[Part]]) -> bool:
    """Tell whether a tensor that is no weight is as long as some part, and so cannot be cut with it."""
    if not isinstance(operand, Tensor):
        return False
    wide = (1,) * (len(shape) - operand.dim()) + tuple(operand.shape)
    return any(wide[d] > 1 and varies(part.ids, d) for parts in met for part in parts for d in range(len(shape)))


def _makes_zero(value: Computed, zeros: Sequence[bool]) -> bool:
    """Tell whether the op gives zero where some of its operands are zero, whatever the others are."""
    leaves, spec = pytree.tree_flatten((value.args, value.kwargs))
    places = [index for index, leaf in enumerate(leaves) if _is_tensor(leaf)]
    for number in _OTHER_NUMBERS:
        given = list(leaves)
        for index, zero in zip(places, zeros, strict=True):
            given[index] = torch.tensor(0.0 if zero else number, dtype=torch.float64)
        args, kwargs = pytree.tree_unflatten(given, spec)
        try:
            found = cast(Callable[..., Tensor], value.node.target)(*args, **kwargs)
        except (RuntimeError, TypeError, IndexError):
            return False
        if not math.isfinite(float(found)) or float(found) != 0.0:
            return False
    return True


_PASSED = "clone to detach alias contiguous _to_copy type_as float double half dropout lift_fresh_copy"
_MOVED = "permute transpose t movedim swapaxes squeeze unsqueeze numpy_T"
_VIEWED = "view reshape flatten unflatten _unsafe_view view_as reshape_as"
_AVERAGED = "mean var std var_mean std_mean amax amin max min prod"

PART_RULES: dict[str, PartRule] = {
    **dict.fromkeys(_PASSED.split(), _passed),
    **dict.fromkeys(_MOVED.split(), _moved),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expanded),
    **dict.fromkeys(_VIEWED.split(), _viewed),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    **dict.fromkeys(("sum", "norm", "linalg_vector_norm"), _summed),
    **dict.fromkeys(_AVERAGED.split(), _averaged),
    **dict.fromkeys(("mv", "mm", "dot", "vdot", "matmul"), _product),
    "pointwise": _pointwise,
    "_weight_norm": _weight_norm,
    "batch_norm": _normed,
    "getitem": _split,
}
