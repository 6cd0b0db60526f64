"""What every criterion is: a name, what it reads, and a ranking of each group's units."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.evidence import Evidence, Ranking, by_score

Scores = Mapping[str, FloatArray]
"""Importance of each unit, by group name: at least 0, the lowest goes first."""
Allocation = Literal["uniform", "global", "cost", "paper"]
"""How the criterion's source spreads the cut: one share for all groups, one threshold on the price, on the price for
what is saved, or its own way."""
Need = Literal["data", "gradients"]


@runtime_checkable
class Criterion(Protocol):
    """Says which units of each group go first, and at what price."""

    @property
    def name(self) -> str:
        """Key in the registry."""
        ...

    @property
    def summary(self) -> str:
        """One line: what is measured, and where that is defined."""
        ...

    @property
    def allocation(self) -> Allocation:
        """What the criterion's source does; prices can be compared across groups where it is "global" or "cost"."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """What it reads beside weights: "data" takes forward passes, "gradients" labels and backward passes too."""
        ...

    def rank(self, evidence: Evidence) -> dict[str, Ranking]:
        """Rank the units of every free group.

        Raises:
            PruneError: the network holds a group that this criterion cannot judge, or a score is not a number.
        """
        ...


@dataclass(frozen=True)
class Scored:
    """A criterion whose scores do not depend on what has gone already."""

    name: str
    summary: str
    allocation: Allocation
    needs: frozenset[Need]
    scores: Callable[[Evidence], Scores]

    def rank(self, evidence: Evidence) -> dict[str, Ranking]:
        """Rank the units of every free group by score."""
        scores = self.scores(evidence)
        _check_groups(scores, evidence, self.name)
        return {
            group.name: by_score(checked(scores[group.name], self.name, group.name)) for group in evidence.coupling.free
        }


@dataclass(frozen=True)
class Ranked:
    """A criterion that scores anew after each removal, and so ranks by itself."""

    name: str
    summary: str
    allocation: Allocation
    needs: frozenset[Need]
    rankings: Callable[[Evidence], dict[str, Ranking]]

    def rank(self, evidence: Evidence) -> dict[str, Ranking]:
        """Rank the units of every free group."""
        rankings = self.rankings(evidence)
        _check_groups(rankings, evidence, self.name)
        for name, ranking in rankings.items():
            checked(ranking.price_U, self.name, name)
        return rankings


NOTHING: frozenset[Need] = frozenset()
DATA: frozenset[Need] = frozenset({"data"})
GRADIENTS: frozenset[Need] = frozenset({"data", "gradients"})


def _check_groups(found: Mapping[str, object], evidence: Evidence, criterion: str) -> None:
    missing = [group.name for group in evidence.coupling.free if group.name not in found]
    if missing:
        raise PruneError(
            f"Criterion {criterion} gives no score for group {missing[0]}, and {len(missing) - 1} more. It must judge "
            "every group of evidence.coupling.free."
        )


def checked(score_U: FloatArray, criterion: str, group: str) -> FloatArray:
    """Return the scores.

    Raises:
        PruneError: one of them is not a finite number.
    """
    if not np.isfinite(score_U).all():
        raise PruneError(
            f"Criterion {criterion} gave a score that is not a finite number in group {group}. "
            "Check the network's weights and, with the statistics batches, its loss: one of them is not finite."
        )
    return score_U
