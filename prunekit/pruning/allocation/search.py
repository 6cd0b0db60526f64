"""Finding widths that meet a target: a sequence of removals, bisected on the analytic cost, then single steps.

Shapes: G free groups, N candidates, M removals (one step of one group each).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prunekit.pruning.allocation.costs import CostModel
from prunekit.pruning.allocation.grid import Grid
from prunekit.pruning.arrays import FloatArray, IntArray

Harm = Callable[[IntArray], FloatArray]
"""What a policy would rather not have, for each row of widths_NG: the less the better."""

_PAIRS = 256
"""Most promising pairs of steps that are looked at exactly."""
_FAR = 8
"""Most steps that a single group moves at once."""
_MOST_STEPS = 200
"""Steps of a local search; each must bring it nearer, so this only bounds the time."""


@dataclass(frozen=True)
class Problem:
    """Widths on a grid whose cost shall be `wanted`."""

    grid: Grid
    cost: CostModel
    wanted: float
    tolerance: float
    """Largest difference from the wanted cost."""
    close: float
    """A cost this near to the wanted one is not improved any further; at most the tolerance."""
    coarser: tuple[Grid, ...] = ()
    """Grids of some of the same widths, on which a search may do better where the cost jumps."""

    def missed(self, widths_NG: IntArray) -> FloatArray:
        """Return how far each row of widths is from the costs that a search for the least harm may use.

        Those are all within the tolerance that are at most `close` dearer than wanted: what costs more looks better.
        """
        over_N = self.cost.totals(widths_NG) - self.wanted
        return np.maximum(0.0, np.maximum(over_N - self.close, -self.tolerance - over_N))

    def errors(self, widths_NG: IntArray) -> FloatArray:
        """Return how far each row of widths is from the wanted cost."""
        return np.abs(self.cost.totals(widths_NG) - self.wanted)

    def error(self, widths_G: IntArray) -> float:
        """Return how far these widths are from the wanted cost."""
        return float(self.errors(widths_G[None])[0])


@dataclass(frozen=True)
class Removals:
    """Every step that each group could lose, from whole to floor."""

    whole_G: IntArray
    group_M: IntArray
    units_M: IntArray
    """Units that go with the step."""
    share_M: FloatArray
    """Share of the group that is gone in the middle of the step."""

    @classmethod
    def of(cls, grid: Grid) -> "Removals":
        """List the steps of every group."""
        rungs = [grid.rungs(group) for group in range(len(grid.whole_G))]
        group_M = np.repeat(np.arange(len(rungs)), [len(widths) - 1 for widths in rungs])
        units_M = np.concatenate([widths[:-1] - widths[1:] for widths in rungs])
        middle_M = np.concatenate([(widths[:-1] + widths[1:]) / 2 for widths in rungs])
        return cls(grid.whole_G, group_M, units_M, 1 - middle_M / grid.whole_G[group_M])

    def in_order_of(self, key_M: FloatArray) -> "Sequence":
        """Order the steps by a key that never falls along a group; equal ones take equal shares of their groups."""
        order_M = np.lexsort((self.share_M, key_M))
        return Sequence(self.whole_G, self.group_M[order_M], self.units_M[order_M])


@dataclass(frozen=True)
class Sequence:
    """Steps in the order in which they are taken."""

    whole_G: IntArray
    group_M: IntArray
    units_M: IntArray

    def after(self, steps: int) -> IntArray:
        """Return widths_G once the first `steps` steps are taken."""
        gone_G = np.bincount(self.group_M[:steps], self.units_M[:steps], minlength=len(self.whole_G))
        return self.whole_G - gone_G.astype(np.int64)

    def nearest(self, problem: Problem) -> IntArray:
        """Bisect on the number of steps; return the widths on the side that is nearer to the wanted cost."""
        low, high = 0, len(self.group_M)
        while low < high:
            middle = (low + high) // 2
            enough = float(problem.cost.totals(self.after(middle)[None])[0]) <= problem.wanted
            low, high = (low, middle) if enough else (middle + 1, high)
        sides_2G = np.stack([self.after(max(0, low - 1)), self.after(low)])
        return sides_2G[int(np.argmin(problem.errors(sides_2G)))]


def approach(problem: Problem, widths_G: IntArray, harm: Harm) -> IntArray:
    """Move single groups, or two at once, by a step while that brings the cost nearer to the wanted one.

    Single groups move by several steps where nothing else helps: latency can jump from one width to the next.

    Among moves that come close enough the least harmful one is taken.
    """
    error = problem.error(widths_G)
    for _ in range(_MOST_STEPS):
        if error <= problem.close:
            break
        for moves in (_single, _pairs, _far):
            found_G = _best(problem, moves(problem, widths_G), harm, widths_G)
            if problem.error(found_G) < error:
                break
        else:
            break
        widths_G, error = found_G, problem.error(found_G)
    return widths_G


def _best(problem: Problem, trials_NG: IntArray, harm: Harm, widths_G: IntArray) -> IntArray:
    """Return the least harmful of the trials that are close enough, or else the nearest; without any, `widths_G`."""
    if not len(trials_NG):
        return widths_G
    errors_N = problem.errors(trials_NG)
    close_N = errors_N <= problem.close
    if close_N.any():
        trials_NG = trials_NG[close_N]
        return trials_NG[int(np.argmin(harm(trials_NG)))]
    return trials_NG[int(np.argmin(errors_N))]


def neighbours(grid: Grid, widths_G: IntArray, rungs: int = 1) -> IntArray:
    """Return every allocation in which one group is so many steps wider or narrower."""
    trials_NG = one_changed(widths_G, grid.wider(widths_G, rungs), grid.narrower(widths_G, rungs))
    return trials_NG[(trials_NG != widths_G).any(axis=1)]


def one_changed(widths_G: IntArray, *others_G: IntArray) -> IntArray:
    """Return, for each of the other allocations, a block of rows that take one group each from it."""
    groups = np.arange(len(widths_G))
    trials_NG = np.tile(widths_G, (len(others_G) * len(groups), 1))
    for block, other_G in enumerate(others_G):
        trials_NG[block * len(groups) + groups, groups] = other_G
    return trials_NG


def _single(problem: Problem, widths_G: IntArray) -> IntArray:
    return neighbours(problem.grid, widths_G)


def _far(problem: Problem, widths_G: IntArray) -> IntArray:
    return np.concatenate([neighbours(problem.grid, widths_G, rungs) for rungs in range(2, _FAR + 1)])


def _pairs(problem: Problem, widths_G: IntArray) -> IntArray:
    """Return allocations two steps away whose cost, were steps independent, is nearest to the wanted one."""
    single_NG = neighbours(problem.grid, widths_G)
    totals_N = problem.cost.totals(single_NG)
    here = float(problem.cost.totals(widths_G[None])[0])
    expected_NN = totals_N[:, None] + totals_N[None, :] - here
    miss_NN = np.abs(expected_NN - problem.wanted)
    first, second = np.triu_indices(len(single_NG), k=1)
    nearest = np.argsort(miss_NN[first, second], kind="stable")[:_PAIRS]
    return combined(widths_G, single_NG, first[nearest], second[nearest])


def combined(widths_G: IntArray, single_NG: IntArray, first: IntArray, second: IntArray) -> IntArray:
    """Return allocations that take two single moves each; two moves of the same group cancel or are left out."""
    change_NG = single_NG - widths_G
    one_PG, other_PG = change_NG[first], change_NG[second]
    apart = ~((one_PG != 0) & (other_PG != 0)).any(axis=1)
    return widths_G + one_PG[apart] + other_PG[apart]
