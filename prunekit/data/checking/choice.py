"""Which samples to draw, so that every class is seen and no split is forgotten.

Shapes: N samples, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from prunekit.data.checking.seen import Seen
from prunekit.data.dataset import Split

LEAST: Final = 6
MOST: Final = 24
_PLAIN: Final = 0.02
"""Share of an image from which on a class in it is plain to see; of a class that is never so large, its largest."""
_ENOUGH: Final = 0.25
_SPLIT_WEIGHT: Final = 0.25
_NAMED: Final = 3


@dataclass(frozen=True)
class Choice:
    """A sample to draw."""

    split: Split
    index: int
    shows: tuple[int, ...]
    """Labels that it is drawn for, the ones that others show least first."""


def choose(seen: Mapping[Split, Sequence[Seen]], num_classes: int) -> list[Choice]:
    """Return samples without faults which together show every class that occurs, as evenly as that can be had.

    Each is the one that shows most of what those before show least, and the same of splits. There are `LEAST` of them,
    more where classes ask for it, at most `MOST`.
    """
    places: list[tuple[Split, int]] = [
        (split, index)
        for split, ones in seen.items()
        for index, one in enumerate(ones)
        if one.labels is not None and not one.faults
    ]
    if not places:
        return []
    plain_NK = _plainness([seen[split][index].labels or {} for split, index in places], num_classes)
    occurs_K = plain_NK.max(axis=0) > 0
    splits = [split for split, _ in places]
    shown_K, chosen = np.zeros(num_classes), list[Choice]()
    left_N = np.ones(len(places), dtype=bool)
    while left_N.any() and len(chosen) < MOST:
        if len(chosen) >= LEAST and (shown_K[occurs_K] >= _ENOUGH).all():
            break
        drawn = [choice.split for choice in chosen]
        turn_N = np.array([1 / (1 + _SPLIT_WEIGHT * drawn.count(split)) for split in splits])
        worth_NK = plain_NK / (1 + 4 * shown_K) ** 2
        best = int(np.where(left_N, worth_NK.sum(axis=1) * turn_N, -1.0).argmax())
        by_worth = np.argsort(-worth_NK[best], kind="stable")[:_NAMED].tolist()
        chosen.append(Choice(*places[best], tuple(label for label in by_worth if plain_NK[best, label] > 0)))
        shown_K += plain_NK[best]
        left_N[best] = False
    return chosen


def _plainness(
    labels: Sequence[Mapping[int, int]], num_classes: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return how plain to see each class is in each sample, from 0 to 1 [N, K]."""
    share_NK = np.zeros((len(labels), num_classes))
    for row, counts in enumerate(labels):
        total = sum(counts.values())
        for label, pixels in counts.items():
            if label < num_classes:
                share_NK[row, label] = pixels / total
    plain_K = np.minimum(_PLAIN, share_NK.max(axis=0))
    return np.minimum(share_NK / np.where(plain_K > 0, plain_K, 1.0), 1.0)
