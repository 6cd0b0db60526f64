"""Channel ids: integer tensors that stand for activations, and the union-find over their entries.

An entry names the channel whose value would stand there. Three entries are special: NONE, a value that belongs to no
channel (a constant, padding made by size), FIXED, one that can never be removed (the image's own channels), and DRAWN,
a random number.
A dimension along which an id tensor does not change has stride 0, so a feature map costs as much as its channels.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from prunekit.pruning.arrays import IntArray

NONE = 0
FIXED = 1
DRAWN = 2
_FIRST = 3
_STAYS = {
    FIXED: "meets the image's own channels or a value that cannot be cut",
    DRAWN: "meets random numbers that are drawn one a channel",
}
"""What is frozen by meeting one of these entries, and why."""


class IdSpace:
    """Hands out ids, remembers which must go together and which must stay."""

    def __init__(self) -> None:
        self.count = _FIRST
        self.reasons: dict[int, str] = {}
        self._constants: list[range] = []
        self._edges: list[IntArray] = []
        self._labels: IntArray | None = None

    def fresh(self, shape: Sequence[int]) -> Tensor:
        """Return new ids, one per entry of `shape`."""
        number = int(np.prod(shape))
        ids = torch.arange(self.count, self.count + number, dtype=torch.int32).reshape(tuple(shape))
        self.count += number
        self._labels = None
        return ids

    def constant(self, shape: Sequence[int], reason: str) -> Tensor:
        """Return new frozen ids for values that differ from place to place and belong to no layer."""
        ids = self.fresh(shape)
        self._constants.append(range(self.count - ids.numel(), self.count))
        self.freeze(ids, reason)
        return ids

    def is_constant(self, ids: Tensor) -> bool:
        """Tell whether all of `ids` are those of one constant."""
        low, high = without_repeats(ids).aminmax() if ids.numel() else (torch.tensor(NONE),) * 2
        return any(int(low) in ids_of_one and int(high) in ids_of_one for ids_of_one in self._constants)

    def unite(self, left: Tensor, right: Tensor) -> None:
        """Tie the entries of two equally shaped id tensors; an entry that meets FIXED or DRAWN is frozen."""
        left, right = shrunk(left, right)
        differ = (left != right) & (left != NONE) & (right != NONE)
        if not bool(differ.any()):
            return
        pairs = torch.unique(torch.stack([left[differ], right[differ]], dim=1), dim=0)
        for entry, reason in _STAYS.items():
            meets = (pairs == entry).any(dim=1)
            if bool(meets.any()):
                self.freeze(pairs[meets], reason)
                pairs = pairs[~meets]
        self._edges.append(pairs.numpy().astype(np.int64))
        self._labels = None

    def freeze_drawn(self, ids: Tensor) -> None:
        """Forbid the removal of channels that as many random numbers are drawn for."""
        self.freeze(ids, _STAYS[DRAWN])

    def freeze(self, ids: Tensor, reason: str) -> None:
        """Forbid the removal of every channel named in `ids`; the first reason given is kept."""
        for number in torch.unique(without_repeats(ids)).tolist():
            if number >= _FIRST:
                self.reasons.setdefault(number, reason)

    def labels(self) -> IntArray:
        """Return for each id the smallest id it is tied to."""
        if self._labels is None:
            self._labels = _components(self.count, self._edges)
        return self._labels

    def frozen_labels(self) -> dict[int, str]:
        """Return the labels that hold a frozen id, with the first reason."""
        labels = self.labels()
        frozen: dict[int, str] = {}
        for number, reason in self.reasons.items():
            frozen.setdefault(int(labels[number]), reason)
        return frozen


def _components(count: int, edges: Iterable[IntArray]) -> IntArray:
    """Label connected components by their smallest member: hooking and pointer jumping, a few vectorised rounds."""
    labels = np.arange(count, dtype=np.int64)
    pairs = np.concatenate([np.empty((0, 2), np.int64), *edges])
    while True:
        left, right = labels[pairs[:, 0]], labels[pairs[:, 1]]
        if np.array_equal(left, right):
            return labels
        low, high = np.minimum(left, right), np.maximum(left, right)
        np.minimum.at(labels, high, low)
        while True:
            jumped = labels[labels]
            if np.array_equal(jumped, labels):
                break
            labels = jumped


def nothing(shape: Sequence[int]) -> Tensor:
    """Return ids of values that belong to no channel."""
    return torch.full((), NONE, dtype=torch.int32).expand(tuple(shape))


def fixed(shape: Sequence[int]) -> Tensor:
    """Return ids of values that can never be removed."""
    return torch.full((), FIXED, dtype=torch.int32).expand(tuple(shape))


def drawn(shape: Sequence[int]) -> Tensor:
    """Return ids of random numbers."""
    return torch.full((), DRAWN, dtype=torch.int32).expand(tuple(shape))


def is_nothing(ids: Tensor) -> bool:
    """Tell whether no entry belongs to a channel."""
    return not bool(without_repeats(ids).any())


def varies(ids: Tensor, dim: int) -> bool:
    """Tell whether a compressed id tensor changes along `dim`."""
    return ids.shape[dim] > 1 and ids.stride(dim) != 0


def compress(ids: Tensor) -> Tensor:
    """Return the same ids with stride 0 along each dimension that they do not change along."""
    for dim in range(ids.dim()):
        if varies(ids, dim):
            first = ids.narrow(dim, 0, 1)
            core = without_repeats(ids, keep=dim)
            if bool((core == core.narrow(dim, 0, 1)).all()):
                ids = first.expand(ids.shape)
    return ids


def merged(left: Tensor, right: Tensor) -> Tensor:
    """Return the larger id of each place of two equally shaped tensors, without writing out what repeats in both."""
    shape = left.shape
    left, right = shrunk(left, right)
    return compress(torch.maximum(left, right)).expand(shape)


def reshaped(ids: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the ids in another shape; what repeats over a part of the shape is not written out."""
    small = list(shape)
    for outs, ins in view_blocks(tuple(ids.shape), tuple(shape)):
        if not any(varies(ids, d) for d in ins):
            for d in ins:
                ids = ids.narrow(d, 0, min(1, ids.shape[d]))
            for d in outs:
                small[d] = min(1, small[d])
    return compress(ids.reshape(small)).expand(tuple(shape))


def view_blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Return (new dims, old dims) of each smallest part of a view whose sizes have equal products."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        ins, outs, left, right = [], [], 1, 1
        while (left != right or left == 1) and (i < len(old) or j < len(new)):
            if (left <= right and i < len(old)) or j == len(new):
                left, i = left * old[i], i + 1
                ins.append(i - 1)
            else:
                right, j = right * new[j], j + 1
                outs.append(j - 1)
        blocks.append((outs, ins))
    return blocks


def without_repeats(ids: Tensor, keep: int = -1) -> Tensor:
    """Return the ids with every stride-0 dimension but `keep` cut to length 1."""
    for dim in range(ids.dim()):
        if dim != keep and ids.shape[dim] > 1 and ids.stride(dim) == 0:
            ids = ids.narrow(dim, 0, 1)
    return ids


def shrunk(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return both with length 1 along each dimension that neither changes along."""
    for dim in range(left.dim()):
        if left.shape[dim] > 1 and left.stride(dim) == 0 and right.stride(dim) == 0:
            left, right = left.narrow(dim, 0, 1), right.narrow(dim, 0, 1)
    return left, right


def sizes(value: Tensor) -> tuple[int, ...]:
    """Return a shape in numbers; a size that depends on the data counts as 1."""
    return tuple(1 if isinstance(n, torch.SymInt) else n for n in value.shape)


def is_known(value: Tensor) -> bool:
    """Tell whether a shape depends on nothing but the sizes of the inputs."""
    return not any(isinstance(n, torch.SymInt) for n in value.shape)


def fits(result: object, value: object) -> bool:
    """Tell whether ids have the shapes that torch gives; one tensor of ids may stand for all outputs."""
    if isinstance(value, (tuple, list)):
        if isinstance(result, (tuple, list)):
            return len(result) == len(value) and all(fits(r, v) for r, v in zip(result, value, strict=True))
        value = value[0] if value else None
    return not (isinstance(value, Tensor) and isinstance(result, Tensor)) or tuple(result.shape) == sizes(value)
