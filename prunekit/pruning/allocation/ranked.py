"""The policies: which steps are taken first. Each is a key per step and a measure of harm; the search is the same.

Shapes: G free groups, N candidates, M removals (one step of one group each), U units of one group.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prunekit.pruning.allocation.enumeration import best_around, best_of_all, best_of_some, is_small
from prunekit.pruning.allocation.search import Harm, Problem, Removals, approach, combined, neighbours, one_changed
from prunekit.pruning.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from prunekit.pruning.evidence import Ranking

Policy = Callable[[Problem, "Sequence[Ranking]"], IntArray]
"""From a problem and the rankings of its groups, in the grid's order, to widths_G."""

_ROUNDS = 30
"""Rounds of the cost-aware fixed point; it settles in about ten."""
_SETTLED = 1e-3
"""The savings change by less than this share: their rounding to whole steps changes more."""
_EXCHANGES = 300
_RESCUES = 5
_REACH = 8
"""Steps that a group moves at most in an exchange."""
_LOOKED_AT = 128
"""Exchanges whose cost is computed."""
_SPAN = 1 / 8
"""Share of a group over which its saving is measured: a latency table has steps and noise that a unit would see."""


def uniform(problem: Problem, rankings: "Sequence[Ranking]") -> IntArray:
    """Take the same share of every group."""
    del rankings  # the order decides which units go, not how many
    removals = Removals.of(problem.grid)
    widths_G = removals.in_order_of(removals.share_M).nearest(problem)
    return _settled(problem, widths_G, _unevenness(problem))


def by_price(problem: Problem, rankings: "Sequence[Ranking]") -> IntArray:
    """Take what is cheapest anywhere: one threshold on the price of a unit, over all groups (sirfp.md 1.2 e).

    Unlike SIRFP's code the threshold is found exactly, not in steps of 0.02, and over all groups at once.
    """
    prices = Prices(problem, rankings)
    widths_G = prices.removals.in_order_of(prices.monotone_M).nearest(problem)
    return _settled(problem, widths_G, prices.removed)


def by_cost(problem: Problem, rankings: "Sequence[Ranking]") -> IntArray:
    """Take what is cheapest for the cost it saves.

    Keeping the most price at a given cost has a Lagrangian: a step goes where its price is below the multiplier times
    what it saves. The multiplier is bisected; what a step saves depends on the widths of the neighbouring layers, so
    savings are measured again at the widths found, until they settle. The problem is not convex, so a local search goes
    on from there: exchanges between two groups, then all allocations of a few groups at a time. Networks so small that
    every allocation can be tried get the best one. Where the cost jumps between widths, coarser grids are searched too.
    """
    prices = Prices(problem, rankings)
    if is_small(problem):
        return best_of_all(problem, prices.removed)
    grids = [replace(problem, grid=grid) for grid in (problem.grid, *problem.coarser)]
    starts = [*((on_grid, _balanced(on_grid, rankings)) for on_grid in grids), (problem, by_price(problem, rankings))]
    candidates = [_exchanged(on_grid, widths_G, prices.removed) for on_grid, widths_G in starts]
    widths_G = min(candidates, key=lambda widths_G: _worth(problem, widths_G, prices.removed))
    widths_G = best_of_some(problem, _exchanged(problem, widths_G, prices.removed), prices.removed)
    return _settled(problem, widths_G, prices.removed) if problem.error(widths_G) > problem.tolerance else widths_G


def _balanced(problem: Problem, rankings: "Sequence[Ranking]") -> IntArray:
    """Return the best widths of the fixed point's rounds."""
    prices = Prices(problem, rankings)
    best_G, saving_G = problem.grid.whole_G, _savings(problem, problem.grid.whole_G)
    for _ in range(_ROUNDS):
        key_M = prices.monotone_M / saving_G[prices.removals.group_M]
        widths_G = prices.removals.in_order_of(key_M).nearest(problem)
        near_G = approach(problem, widths_G, prices.removed)
        best_G = min(best_G, near_G, key=lambda widths_G: _worth(problem, widths_G, prices.removed))
        found_G = _savings(problem, widths_G)
        if np.abs(np.log(found_G / saving_G)).max() < _SETTLED:
            break
        saving_G = np.sqrt(saving_G * found_G)  # half way: neighbours that answer each other would swing
    return best_G


def _worth(problem: Problem, widths_G: IntArray, harm: Harm) -> tuple[float, float]:
    """Return what to minimise: how far outside the allowed costs the widths are, then their harm."""
    return float(problem.missed(widths_G[None])[0]), float(harm(widths_G[None])[0])


def _settled(problem: Problem, widths_G: IntArray, harm: Harm) -> IntArray:
    """Come close in single steps; where they do not get within the tolerance, try all allocations around, or some."""
    near_G = approach(problem, widths_G, harm)
    for _ in range(_RESCUES):
        if problem.error(near_G) <= problem.tolerance:
            break
        near_G = approach(problem, best_around(problem, near_G, harm), harm)
        if problem.error(near_G) > problem.tolerance:
            near_G = best_of_some(problem, near_G, harm)
    return near_G


def _unevenness(problem: Problem) -> Harm:
    """Measure how far the shares kept are from being equal; a unit counts the same in every group."""
    whole_G = problem.grid.whole_G

    def harm(widths_NG: IntArray) -> FloatArray:
        share_N1 = widths_NG.sum(axis=1, keepdims=True) / whole_G.sum()
        return np.square(widths_NG / whole_G - share_N1) @ whole_G

    return harm


class Prices:
    """What the steps of every group cost in terms of the criterion."""

    def __init__(self, problem: Problem, rankings: "Sequence[Ranking]") -> None:
        self.removals = Removals.of(problem.grid)
        # Price of what is gone, by width: from all units gone at 0 to none at the whole width.
        gone = [np.concatenate([[0.0], np.cumsum(ranking.price_U)])[::-1] for ranking in rankings]
        self._gone = np.concatenate(gone)
        self._offset_G = np.cumsum([0, *(len(table) for table in gone)])[:-1]
        per_step = [_step_prices(table, problem.grid.rungs(number)) for number, table in enumerate(gone)]
        self.monotone_M = np.concatenate(per_step)
        """Price per unit of each step, on the lower convex hull of the group's prices."""

    def removed(self, widths_NG: IntArray) -> FloatArray:
        """Return the price of all that is gone, for each row of widths."""
        return self._gone[self._offset_G + widths_NG].sum(axis=1)


def _step_prices(gone: FloatArray, rungs: IntArray) -> FloatArray:
    units = (rungs[:-1] - rungs[1:]).astype(np.float64)
    return isotonic((gone[rungs[1:]] - gone[rungs[:-1]]) / units, units)


def isotonic(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the nearest sequence that never falls, in weighted least squares, by pooling adjacent violators.

    As slopes, the values pooled are those of the lower convex hull of their running sum: a step that is cheaper than
    the one before it goes together with that one.
    """
    if np.all(np.diff(values) >= 0):
        return values
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        length = 1
        while blocks and blocks[-1][0] >= value:
            mean, before, count = blocks.pop()
            value = (mean * before + value * weight) / (before + weight)
            weight, length = before + weight, length + count
        blocks.append((value, weight, length))
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def _savings(problem: Problem, widths_G: IntArray) -> FloatArray:
    """Return what one unit of each group saves at these widths, over a span around each, never 0."""
    grid = problem.grid
    span_G = np.maximum(1, np.rint(_SPAN * grid.whole_G / grid.step_G).astype(np.int64))
    wide_G, narrow_G = grid.wider(widths_G, span_G), grid.narrower(widths_G, span_G)
    totals_N = problem.cost.totals(one_changed(widths_G, wide_G, narrow_G))
    saved_G = totals_N[: len(widths_G)] - totals_N[len(widths_G) :]
    saving_G = saved_G / np.maximum(1, wide_G - narrow_G)
    # A group that saves nothing keeps its units until nothing else is left.
    return np.maximum(saving_G, max(1e-9 * float(saving_G.max()), np.finfo(np.float64).tiny))


def _exchanged(problem: Problem, widths_G: IntArray, removed: Harm) -> IntArray:
    """Move two groups at once, each by a few steps, while less price is gone for a cost as close as before."""
    allowed = _worth(problem, widths_G, removed)[0]
    for _ in range(_EXCHANGES):
        here = float(removed(widths_G[None])[0])
        trials_PG = _promising(problem, widths_G, removed)
        gain_P = here - removed(trials_PG)
        gain_P[problem.missed(trials_PG) > allowed] = 0.0
        if gain_P.max(initial=0.0) <= 1e-12 * here:
            break
        widths_G = trials_PG[int(np.argmax(gain_P))]
    return widths_G


def _promising(problem: Problem, widths_G: IntArray, removed: Harm) -> IntArray:
    """Return the moves of two groups that gain most if moves were independent of each other."""
    moves_NG = np.concatenate([neighbours(problem.grid, widths_G, rungs) for rungs in range(1, _REACH + 1)])
    both = np.concatenate([widths_G[None], moves_NG])
    totals, prices = problem.cost.totals(both), removed(both)
    cost_NN = totals[1:, None] + totals[None, 1:] - totals[0]
    gain_NN = 2 * prices[0] - prices[1:, None] - prices[None, 1:]
    # The whole tolerance, not the part of it that is allowed: where two groups meet in a layer the sum is an estimate.
    worth_NN = np.triu((gain_NN > 0) & (np.abs(cost_NN - problem.wanted) <= problem.tolerance), k=1)
    first, second = np.nonzero(worth_NN)
    best = np.argsort(-gain_NN[first, second], kind="stable")[:_LOOKED_AT]
    return combined(widths_G, moves_NG, first[best], second[best])
