"""Trying every allocation of a small network, or every one near a given one, where single steps do not get there.

Shapes: G free groups, N candidates.
"""

import math
from collections.abc import Sequence

import numpy as np

from prunekit.pruning.allocation.search import Harm, Problem, one_changed
from prunekit.pruning.arrays import IntArray

LIMIT = 20_000
"""Allocations that are tried at most: about 20 ms of MACs, a second of a latency table."""
_DRAWS = 24
_WORK = 200_000
"""Widths that are looked at in one draw."""
_ROWS = 4096
"""Allocations whose cost is computed at once: keeps the memory to a few MiB."""


def is_small(problem: Problem) -> bool:
    """Tell whether all allocations can be tried."""
    return math.prod(_rung_counts(problem)) <= LIMIT


def best_of_all(problem: Problem, harm: Harm) -> IntArray:
    """Return the least harmful of all allocations within the tolerance, or else the nearest; only for small problems.

    Its dearer side is used only where nothing else meets the target: what costs more would look better.
    """
    return _best(problem, _product([problem.grid.rungs(group) for group in range(len(problem.grid.names))]), harm)


def best_around(problem: Problem, widths_G: IntArray, harm: Harm) -> IntArray:
    """Return the best allocation, as `best_of_all` ranks them, within as many steps of `widths_G` as can be tried.

    Where one step of each group is too many already, the groups whose steps cost least are moved.
    """
    if is_small(problem):
        return best_of_all(problem, harm)
    radius = 1
    while math.prod(len(options) for options in _options(problem, widths_G, radius + 1)) <= LIMIT:
        radius += 1
    options = _options(problem, widths_G, radius)
    for group in _coarse_first(problem, widths_G):
        if math.prod(len(values) for values in options) <= LIMIT:
            break
        options[group] = widths_G[group : group + 1]
    return _best(problem, _product(options), harm)


def best_of_some(problem: Problem, widths_G: IntArray, harm: Harm) -> IntArray:
    """Try all allocations of a few groups at a time around `widths_G`, and go on from the best; groups are drawn.

    Finds what exchanges of two groups cannot, where steps are coarse; the draws depend on nothing but the network.
    """
    rng = np.random.default_rng(0)
    rows = min(LIMIT, _WORK // len(widths_G))
    for number in range(_DRAWS):
        size = min(len(widths_G), 2 + number % 4)  # few groups go far, many groups change together
        drawn = rng.choice(len(widths_G), size, replace=False)
        options = [widths_G[group : group + 1] for group in range(len(widths_G))]
        around = _options(problem, widths_G, max(1, int((rows ** (1 / size) - 1) / 2)))
        for group in drawn.tolist():
            options[group] = around[group]
        found_G = _best(problem, _product(options), harm)
        both_2G = np.stack([widths_G, found_G])
        (missed, now_missed), (before, after) = problem.missed(both_2G).tolist(), harm(both_2G).tolist()
        if (now_missed, after) < (missed, before):
            widths_G = found_G
    return widths_G


def _rung_counts(problem: Problem) -> list[int]:
    grid = problem.grid
    return (1 + -(-(grid.whole_G - grid.floor_G) // grid.step_G)).tolist()


def _options(problem: Problem, widths_G: IntArray, radius: int) -> list[IntArray]:
    """Return the widths of each group within `radius` steps."""
    steps = range(1, radius + 1)
    rows = [widths_G, *(move(widths_G, n) for n in steps for move in (problem.grid.wider, problem.grid.narrower))]
    return [np.unique(column) for column in np.stack(rows).T]


def _coarse_first(problem: Problem, widths_G: IntArray) -> list[int]:
    """Return the groups, the one whose step down saves most first: fine ones close a small gap."""
    one_less_GG = one_changed(widths_G, problem.grid.narrower(widths_G))
    return np.argsort(problem.cost.totals(one_less_GG), kind="stable").tolist()


def _product(options: Sequence[IntArray]) -> IntArray:
    """Return every combination of one value each as a row."""
    rows = math.prod(len(values) for values in options)
    trials_NG = np.empty((rows, len(options)), dtype=np.int64)
    repeats = rows
    for group, values in enumerate(options):
        repeats //= len(values)
        trials_NG[:, group] = np.tile(np.repeat(values, repeats), rows // (repeats * len(values)))
    return trials_NG


def _best(problem: Problem, trials_NG: IntArray, harm: Harm) -> IntArray:
    parts = np.array_split(trials_NG, 1 + len(trials_NG) // _ROWS)
    over_N = np.concatenate([problem.cost.totals(part) for part in parts]) - problem.wanted
    within_N = np.abs(over_N) <= problem.tolerance
    for allowed_N in (within_N & (over_N <= problem.close), within_N):
        if bool(allowed_N.any()):
            return trials_NG[allowed_N][int(np.argmin(harm(trials_NG[allowed_N])))]
    return trials_NG[int(np.argmin(np.abs(over_N)))]
