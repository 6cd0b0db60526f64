"""The share p of the threshold that meets a target: by bisection, not in steps of 0.02.

The official code raises p from 0.50 in steps of 0.02 until the cost is below the target (sirfp.md 1.2 e), which goes
past it by some per cent. Here p is bisected on the analytic cost. Where no p comes close enough, single groups are
stepped, so that units as near to the threshold as possible change sides.

Shapes: G free groups, N candidates, U units of one group.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunekit.errors import PruneError
from prunekit.pruning.allocation import (
    TOLERANCE,
    Grid,
    Harm,
    LayerTable,
    Problem,
    Target,
    approach,
    best_around,
    cost_model,
)
from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.evidence import Ranking
from prunekit_runtime.spelling import option

NOTHING_GOES = -1.0
"""A share p below every level."""

_ATTEMPTS = 8
"""Targets that are tried to find one within reach: each lies where the one before ended."""


@dataclass(frozen=True)
class Levels:
    """The groups that may be cut, and their units in the order in which the rising threshold takes them."""

    groups: tuple[Group, ...]
    rankings: Mapping[str, Ranking]
    """Prices are levels."""

    @classmethod
    def of(cls, groups: tuple[Group, ...], level_U: Mapping[str, FloatArray]) -> "Levels":
        """Order the units of each group by level, ties by position."""
        orders = {group.name: np.argsort(level_U[group.name], kind="stable") for group in groups}
        return cls(groups, {name: Ranking(order, level_U[name][order]) for name, order in orders.items()})

    def thresholds(self) -> FloatArray:
        """Return the shares p at which something happens, from nothing removed to all but the floors."""
        levels = np.concatenate([ranking.price_U for ranking in self.rankings.values()])
        return np.concatenate([[NOTHING_GOES], np.unique(levels[np.isfinite(levels)])])

    def widths(self, share: float) -> dict[str, int]:
        """Return how many units of each group stay at p = `share`."""
        return {name: int((ranking.price_U > share).sum()) for name, ranking in self.rankings.items()}

    def keep(self, widths: Mapping[str, int]) -> dict[str, list[int]]:
        """Return the kept positions of each group."""
        return {name: ranking.kept(widths[name]) for name, ranking in self.rankings.items()}


def cut(
    coupling: Coupling, levels: Levels, target: Target, align: int, table: LayerTable | None = None
) -> dict[str, list[int]]:
    """Return the kept positions of each group of `levels`, so that the target is met; other groups stay whole.

    Args:
        coupling: the analysis of the dense network.
        levels: how long the units of each group stay.
        target: what shall be left.
        align: channels are kept in multiples of this; a group that is no wider stays whole.
        table: measured layers, for a latency target.

    Raises:
        PruneError: the nearest found is more than 0.5 % of the dense cost away, or the alignment is below 1.
    """
    search = _Search(coupling, levels, target, align, table)
    widths_G, met = search.towards(target)
    if met:
        return levels.keep(dict(zip(search.grid.names, widths_G.tolist(), strict=True)))
    nearest = search.nearest(target, widths_G)
    finer = f" Or allow finer steps: {option('align', 1)}." if align > 1 else ""
    wanted, found = (target.text(goal.wanted(search.dense)) for goal in (target, nearest))
    raise PruneError(
        f"sirfp-paper cannot bring the network from {target.text(search.dense)} to {wanted}; the nearest found is "
        f"{found}. Ask for {nearest.flag}.{finer}"
    )


class _Search:
    """What is the same for every target that is tried."""

    def __init__(
        self, coupling: Coupling, levels: Levels, target: Target, align: int, table: LayerTable | None
    ) -> None:
        orders = {group.name: np.arange(group.width) for group in coupling.free}
        orders |= {name: ranking.order_U for name, ranking in levels.rankings.items()}
        self.levels, self.cost = levels, cost_model(coupling, orders, target, table)
        self.grid = _grid(coupling, levels, align)
        self.dense = self.cost.total({})
        self._thresholds = levels.thresholds()

    def towards(self, target: Target) -> tuple[IntArray, bool]:
        """Return the widths found for a target, and whether they meet it."""
        allowed = TOLERANCE * self.dense
        problem = Problem(self.grid, self.cost, target.wanted(self.dense), allowed, allowed)
        share = self._share(problem)
        widths_G, harm = self._widths(share), self._harm(share)
        widths_G = approach(problem, widths_G, harm)
        if problem.error(widths_G) > allowed:
            widths_G = best_around(problem, widths_G, harm)
        return widths_G, problem.error(widths_G) <= allowed

    def nearest(self, target: Target, widths_G: IntArray) -> Target:
        """Return a target that is met, near to one that is not."""
        for _ in range(_ATTEMPTS):
            target = target.leaving(float(self.cost.totals(widths_G[None])[0]), self.dense)
            widths_G, met = self.towards(target)
            if met:
                break
        return target

    def _share(self, problem: Problem) -> float:
        """Bisect on p; return the one on the side that is nearer to the wanted cost."""
        low, high = 0, len(self._thresholds) - 1
        while low < high:
            middle = (low + high) // 2
            cost = float(self.cost.totals(self._widths(float(self._thresholds[middle]))[None])[0])
            low, high = (low, middle) if cost <= problem.wanted else (middle + 1, high)
        sides = [float(self._thresholds[index]) for index in (max(0, low - 1), low)]
        return min(sides, key=lambda share: problem.error(self._widths(share)))

    def _widths(self, share: float) -> IntArray:
        """Return the widths of all groups at p = `share`, each the nearest that the alignment and the floor allow."""
        wanted = self.levels.widths(share)
        wanted_G = [
            wanted.get(name, int(whole)) for name, whole in zip(self.grid.names, self.grid.whole_G, strict=True)
        ]
        nearest: list[int] = []
        for group, width in enumerate(wanted_G):
            rungs = self.grid.rungs(group)
            nearest.append(int(rungs[np.argmin(np.abs(rungs - width))]))
        return np.array(nearest, dtype=np.int64)

    def _harm(self, share: float) -> Harm:
        """Measure how far from the threshold the units on its wrong side lie; 0 for groups that are not judged."""
        rankings = [self.levels.rankings.get(name) for name in self.grid.names]
        tables = [
            np.zeros(int(whole) + 1) if ranking is None else misplaced(ranking.price_U, share)
            for ranking, whole in zip(rankings, self.grid.whole_G, strict=True)
        ]
        values = np.concatenate(tables)
        offset_G = np.cumsum([0, *(len(table) for table in tables)])[:-1]
        return lambda widths_NG: values[offset_G + widths_NG].sum(axis=1)


def misplaced(level_U: FloatArray, share: float) -> FloatArray:
    """Return, for each width of a group from 0 to U, the distances to p = `share` of units on the wrong side, summed.

    Args:
        level_U: levels in the order of removal, the lowest first; an infinite one counts as 1.
        share: p; a unit above it should stay, any other go.
    """
    level_U = np.minimum(level_U, 1.0)
    kept_below = np.concatenate([[0.0], np.cumsum(np.maximum(share - level_U[::-1], 0.0))])
    gone_above = np.concatenate([[0.0], np.cumsum(np.maximum(level_U - share, 0.0))])[::-1]
    return kept_below + gone_above


def _grid(coupling: Coupling, levels: Levels, align: int) -> Grid:
    """Return the widths each group may have: units of infinite level stay, groups that are not judged stay whole."""
    grid = Grid(coupling, align, floor=0.0)
    always = {name: int(np.isinf(ranking.price_U).sum()) for name, ranking in levels.rankings.items()}
    floors = [always.get(name, int(whole)) for name, whole in zip(grid.names, grid.whole_G, strict=True)]
    aligned = [math.ceil(floor / step) * int(step) for floor, step in zip(floors, grid.step_G, strict=True)]
    grid.floor_G = np.minimum(grid.whole_G, np.maximum(grid.floor_G, np.array(aligned, dtype=np.int64)))
    return grid
