"""What a criterion says of a group: which unit goes first, and what each removal costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunekit.pruning.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Ranking:
    """One group: units in the order of removal, and the price of each removal in that order."""

    order_U: IntArray
    """Unit positions, the first to go first."""
    price_U: FloatArray
    """What the removal at each step costs, at least 0; depends on what has gone already where `order_U` does."""

    def removed(self, keep: int) -> IntArray:
        """Return the positions that go when `keep` units stay."""
        return self.order_U[: len(self.order_U) - keep]

    def kept(self, keep: int) -> list[int]:
        """Return the sorted positions that stay when `keep` units stay."""
        return sorted(self.order_U[len(self.order_U) - keep :].tolist())


Rankings = Mapping[str, Ranking]
"""The ranking of every free group, by group name."""


def unused(width: int) -> Ranking:
    """Rank the units of a group that only training uses, such as an auxiliary head's: none costs anything."""
    return Ranking(np.arange(width), np.zeros(width))


def by_score(score_U: npt.ArrayLike) -> Ranking:
    """Rank units by a score that does not depend on what has gone: the lowest goes first, ties in order of position."""
    values_U = np.asarray(score_U, dtype=np.float64)
    order_U = np.argsort(values_U, kind="stable")
    return Ranking(order_U, values_U[order_U])
