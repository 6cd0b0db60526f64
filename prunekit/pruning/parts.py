"""What runs along the dimensions of a weight that is computed on the way: standardised, scaled, normalised weights.

A parameter brings one part per channel dimension. Ops carry parts along; where two parts meet they are tied. Two
things decide whether a dimension can be cut: the network with zeros in place of the removed positions must compute
the same weight for the others (a sum or a norm does, a mean does not), and zero at the removed ones.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.pruning.ids import IdSpace, compress, reshaped, varies, without_repeats
from prunekit.pruning.values import Computed, Part, Parts, Source, Weight

_MIXED = "is standardised together with other channels in a weight computed on the way"
_OTHER_NUMBERS = (0.7, 1.3)
"""Stand for what is not removed when an op is asked what it makes of zeros."""

Given = tuple[Any, ...]


@dataclass
class Derivation:
    """Derives the parts of computed weights, each once, and ties them as it goes."""

    space: IdSpace
    sources: dict[Source, Tensor] = field(default_factory=dict)
    """Ids of each parameter dimension that some part comes from."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    followers: set[Source] = field(default_factory=set)
    """Dimensions that a contraction ties to others: they are cut with them."""
    _known: dict[Node, Parts] = field(default_factory=dict)

    def of(self, value: object) -> Parts:
        """Return the parts of a weight, a computed one, or anything else, which has none."""
        if isinstance(value, Weight):
            return self._of_weight(value)
        if not isinstance(value, Computed):
            return Parts()
        if value.node not in self._known:
            self._known[value.node] = self._derive(value)
        return self._known[value.node]

    def _of_weight(self, weight: Weight) -> Parts:
        self.shapes[weight.name] = weight.shape
        # A variance is kept where a channel is removed: zero would divide by epsilon.
        vanishes = not weight.name.endswith("running_var")
        parts = []
        for dim in _channel_dims(weight.shape):
            source = (weight.name, dim)
            if source not in self.sources:
                self.sources[source] = self.space.fresh((weight.shape[dim],))
            shape = [1] * len(weight.shape)
            shape[dim] = -1
            ids = self.sources[source].reshape(shape).expand(weight.shape)
            parts.append(Part(ids, frozenset([source]), vanishes))
        return Parts(tuple(parts))

    def _derive(self, value: Computed) -> Parts:
        rule = _RULES.get(value.op)
        if rule is None and torch.Tag.pointwise in getattr(value.node.target, "tags", ()):
            rule = Derivation._pointwise
        found = None if rule is None else rule(self, value)
        if found is not None:
            return found
        # Everything that goes in stays as it is.
        reason = f"feeds a layer whose weight is computed by {value.op}, which the analysis does not follow"
        for leaf in pytree.tree_leaves((value.args, value.kwargs)):
            for part in self.of(leaf).parts:
                self.space.freeze(part.ids, reason)
        return Parts((), reason)

    def _passed(self, value: Computed) -> Parts:
        return self.of(value.args[0])

    def _moved(self, value: Computed) -> Parts | None:
        """Permute, transpose, expand: the op itself, on the ids of each part."""
        given = self.of(value.args[0])
        target = cast(Callable[..., Tensor], value.node.target)
        parts = [replace(p, ids=compress(target(p.ids, *value.args[1:], **value.kwargs))) for p in given.parts]
        return replace(given, parts=tuple(parts))

    def _expanded(self, value: Computed) -> Parts:
        return replace(self.of(value.args[0]), parts=tuple(self._broadcast(value.args[0], value.shape)))

    def _viewed(self, value: Computed) -> Parts:
        given = self.of(value.args[0])
        parts = tuple(replace(part, ids=reshaped(part.ids, value.shape)) for part in given.parts)
        return replace(given, parts=parts)

    def _padded(self, value: Computed) -> Parts | None:
        """Pad the places of a kernel; channels that are padded stay."""
        parts = []
        for part in self.of(value.args[0]).parts:
            core = without_repeats(part.ids)
            if any(core.shape[d] > 1 and part.ids.shape[d] != value.shape[d] for d in range(core.dim())):
                return None
            parts.append(replace(part, ids=core.expand(value.shape)))
        return Parts(tuple(parts))

    def _split(self, value: Computed) -> Parts | None:
        """One of the parts of a chunk or a split: the same positions of each go together."""
        whole, index = value.args
        if not isinstance(whole, Computed) or whole.op not in ("chunk", "split", "split_with_sizes", "unbind"):
            return self._several(value)
        lengths = [tuple(one.shape) for one in whole.node.meta["val"]]
        if whole.op == "unbind" or len(set(lengths)) > 1:
            return None
        dim = int(whole.kwargs.get("dim", whole.args[2] if len(whole.args) > 2 else 0))
        parts = []
        for part in self.of(whole.args[0]).parts:
            length = lengths[0][dim]
            pieces = [part.ids.narrow(dim, number * length, length) for number in range(len(lengths))]
            for piece in pieces[1:]:
                self.space.unite(pieces[0], piece)
            parts.append(replace(part, ids=compress(pieces[index])))
        return Parts(tuple(parts))

    def _several(self, value: Computed) -> Parts | None:
        """One of the results of var_mean and its kind, which are shaped alike."""
        whole = value.args[0]
        return self.of(whole) if isinstance(whole, Computed) and whole.op in ("var_mean", "std_mean") else None

    def _pointwise(self, value: Computed) -> Parts | None:
        operands = [leaf for leaf in pytree.tree_leaves((value.args, value.kwargs)) if _is_tensor(leaf)]
        met = [self._broadcast(operand, value.shape) for operand in operands]
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
                self.space.unite(other.ids, part.ids)
                both = tuple(a or b for a, b in zip(zeros, zero, strict=True))
                tied[mate] = (replace(other, sources=other.sources | part.sources), both)
        return Parts(tuple(replace(part, vanishes=_makes_zero(value, zeros)) for part, zeros in tied))

    def _broadcast(self, operand: object, shape: Sequence[int]) -> list[Part]:
        parts = []
        for part in self.of(operand).parts:
            lead = [1] * (len(shape) - part.ids.dim())
            parts.append(replace(part, ids=part.ids.reshape(*lead, *part.ids.shape).expand(tuple(shape))))
        return parts

    def _summed(self, value: Computed) -> Parts:
        """Sum and norm: zeros count for nothing, so that what is reduced can still be cut."""
        return self._reduced(value, lambda part: part.vanishes)

    def _averaged(self, value: Computed) -> Parts:
        return self._reduced(value, lambda _: False)

    def _reduced(self, value: Computed, can_lose: Callable[[Part], bool]) -> Parts:
        args, ids_shape = value.args, _shape(value.args[0])
        place = 2 if value.op in ("norm", "linalg_vector_norm") else 1
        given = value.kwargs.get("dim", args[place] if len(args) > place else None)
        dims = [given] if isinstance(given, int) else list(given or range(len(ids_shape)))
        dims = sorted(d % len(ids_shape) for d in dims)
        parts = []
        for part in self.of(args[0]).parts:
            if not any(varies(part.ids, d) for d in dims):
                ids = part.ids
                for d in dims:
                    ids = ids.narrow(d, 0, 1)
                parts.append(replace(part, ids=ids.reshape(_reduced_shape(value))))
            elif not can_lose(part):
                self.space.freeze(part.ids, _MIXED)
        return Parts(tuple(parts))

    def _weight_norm(self, value: Computed) -> Parts | None:
        """Torch's weight normalisation of v, g and a dimension: every slice of v along it gets the length in g."""
        v, g = value.args[:2]
        dim = int(value.args[2]) if len(value.args) > 2 else 0
        if dim < 0:
            return Parts(self.of(v).parts)
        lengths = next((p for p in self._broadcast(g, value.shape) if varies(p.ids, dim)), None)
        if lengths is None or not lengths.vanishes:
            return None
        parts = []
        for part in self.of(v).parts:
            if varies(part.ids, dim):
                self.space.unite(part.ids, lengths.ids)
                # Where g is zero v may be anything but zero, which would be 0 / 0: `masked` leaves it.
                kept = isinstance(v, Weight) and v.name.endswith(".original1")
                part = replace(part, sources=part.sources | lengths.sources, vanishes=kept)
            parts.append(part)
        return Parts(tuple(parts))

    def _normed(self, value: Computed) -> Parts | None:
        """batch_norm of a weight, by its own statistics: how scaled standardised convolutions are written."""
        x, scale, shift, mean, variance, training = value.args[:6]
        if mean is not None or variance is not None or not training or shift is not None:
            return None
        along = [part for part in self.of(x).parts if varies(part.ids, 1)]
        for part in self.of(x).parts:
            if not varies(part.ids, 1):
                self.space.freeze(part.ids, _MIXED)
        if len(along) != 1 or not along[0].vanishes or _axes(along[0].ids) > 1:
            return None
        part = along[0]
        for other in self.of(scale).parts:
            shape = [1] * len(value.shape)
            shape[1] = -1
            self.space.unite(part.ids, other.ids.reshape(shape).expand(value.shape))
            part = replace(part, sources=part.sources | other.sources)
        return Parts((part,), _MIXED)

    def _product(self, value: Computed) -> Parts | None:
        """mv, dot, mm of weights: what is summed over is tied, and lost where either side is zero."""
        left, right = self.of(value.args[0]), self.of(value.args[1])
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
        self.space.unite(_vector(a.ids, of_left), _vector(b.ids, of_right))
        self.followers |= a.sources | b.sources
        last = len(value.shape) - 1
        stays = [*((part, 0) for part in left.parts if part is not a), *((p, last) for p in right.parts if p is not b)]
        parts = []
        for part, dim in stays:
            shape = [1] * len(value.shape)
            shape[dim] = -1
            ids = _vector(part.ids, next(d for d in range(part.ids.dim()) if varies(part.ids, d)))
            parts.append(replace(part, ids=ids.reshape(shape).expand(value.shape)))
        return Parts(tuple(parts))


def _channel_dims(shape: tuple[int, ...]) -> list[int]:
    """Return the dimensions of a parameter that can run along channels: of a kernel the first two."""
    kernel = len(shape) > 2 and max(shape[:2]) > 1
    return [dim for dim in range(2 if kernel else len(shape)) if shape[dim] > 1]


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

_RULES: dict[str, Callable[[Derivation, Computed], Parts | None]] = {
    **dict.fromkeys(_PASSED.split(), Derivation._passed),
    **dict.fromkeys(_MOVED.split(), Derivation._moved),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), Derivation._expanded),
    **dict.fromkeys(_VIEWED.split(), Derivation._viewed),
    **dict.fromkeys(("pad", "constant_pad_nd"), Derivation._padded),
    **dict.fromkeys(("sum", "norm", "linalg_vector_norm"), Derivation._summed),
    **dict.fromkeys(_AVERAGED.split(), Derivation._averaged),
    **dict.fromkeys(("mv", "mm", "dot", "vdot", "matmul"), Derivation._product),
    "_weight_norm": Derivation._weight_norm,
    "batch_norm": Derivation._normed,
    "getitem": Derivation._split,
}
