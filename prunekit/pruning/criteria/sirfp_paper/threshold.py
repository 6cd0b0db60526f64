"""The global threshold: how far it must rise until a channel goes.

A channel's level is the share p of its part at which the threshold reaches it: at p it stays if its level is above p.
Levels make one comparison of what the official code does anew for each p.

Shapes: C rows of one batch norm or group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prunekit.pruning.arrays import FloatArray

FLOOR_SHARE = 0.02
"""A layer keeps at least max(1, floor(0.02 C)) channels (sirfp.md 1.2 e)."""


@dataclass(frozen=True)
class Scored:
    """The scores of one batch norm, high to keep."""

    score_C: FloatArray
    encoder: bool


class Threshold(Protocol):
    """How scores of different layers are compared."""

    def __call__(self, rows: Sequence[Scored]) -> list[FloatArray]:
        """Return the level of each row's channels; infinite for those that always stay."""
        ...


class GlobalThreshold:
    """One threshold for all layers of the encoder and one for all others, at the same share p of each.

    The threshold is the p-quantile of the part's scores, and a channel stays if its score is above it. Source:
    sirfp.md 1.2 e, a reading of the official code.
    """

    def __call__(self, rows: Sequence[Scored]) -> list[FloatArray]:
        """Return the level of each row's channels; infinite for those that always stay."""
        parts = {
            part: np.sort(np.concatenate([row.score_C for row in rows if row.encoder is part]))
            for part in {row.encoder for row in rows}
        }
        return [_floored(row.score_C, _levels(row.score_C, parts[row.encoder])) for row in rows]


def _levels(score_C: FloatArray, sorted_part: FloatArray) -> FloatArray:
    """Return the share of the part with a lower score: the threshold is above the score from there on."""
    return np.searchsorted(sorted_part, score_C, side="left") / len(sorted_part)


def _floored(score_C: FloatArray, level_C: FloatArray) -> FloatArray:
    floor = max(1, int(FLOOR_SHARE * len(score_C)))
    best = np.argsort(-score_C, kind="stable")[:floor]
    level_C[best] = np.inf
    return level_C
