"""The most MACs that fit into a time: what no choice of widths can better on a machine, whatever its criterion says.

Widths are looked for by a latency table alone. Shapes: G free groups, N candidates.
"""

from collections.abc import Callable

import numpy as np

from prunekit.pruning.allocation import TOLERANCE, CostModel, Grid, LatencyCost, MacsCost, Problem, approach
from prunekit.pruning.allocation.enumeration import best_of_some
from prunekit.pruning.allocation.targets import CLOSE
from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency import LatencyTable

PRICES = np.geomspace(0.5, 2.0, 25)
"""Of the share of the time, in shares of the MACs: a sweep over the convex hull of what is reachable."""
STARTS = 3


def most_macs(coupling: Coupling, table: LatencyTable, target_ms: float, align: int) -> dict[str, list[int]]:
    """Return the kept units of each group, the first of each, with the most MACs that were found in `target_ms`.

    Keeping the most MACs at a price on time is a Lagrangian, raised group by group until no single group gains; from
    each of its ends a local search goes to the time wanted. The best that was found, not a proven optimum.
    """
    orders = {group.name: np.arange(group.width)[::-1] for group in coupling.free}
    macs, time = MacsCost(coupling, orders), LatencyCost(coupling, orders, table)
    grid = Grid(coupling, align)
    dense_ms, dense_macs = (float(cost.totals(grid.whole_G[None])[0]) for cost in (time, macs))
    problem = Problem(grid, time, target_ms, TOLERANCE * dense_ms, CLOSE * TOLERANCE * dense_ms)

    def lost(widths_NG: IntArray) -> FloatArray:
        return 1 - macs.totals(widths_NG) / dense_macs

    def loss(widths_G: IntArray) -> tuple[float, float]:
        return float(problem.missed(widths_G[None])[0]), float(lost(widths_G[None])[0])

    ends = {tuple(end.tolist()) for end in _ends(grid, time, lost, dense_ms)}
    near = [approach(problem, np.array(end), lost) for end in sorted(ends)]
    best = sorted(near, key=loss)[:STARTS]
    widths_G = min((best_of_some(problem, start_G, lost) for start_G in best), key=loss)
    return {name: list(range(width)) for name, width in zip(grid.names, widths_G.tolist(), strict=True)}


def _ends(grid: Grid, time: CostModel, lost: Callable[[IntArray], FloatArray], dense_ms: float) -> list[IntArray]:
    rng = np.random.default_rng(0)
    rungs = [grid.rungs(group) for group in range(len(grid.names))]
    ends: list[IntArray] = []
    for price in PRICES:
        for start in range(STARTS):
            widths_G = grid.whole_G if start == 0 else np.array([rng.choice(widths) for widths in rungs])
            ends.append(
                _ascended(
                    widths_G,
                    rungs,
                    lambda rows_NG, price=price: lost(rows_NG) + price * time.totals(rows_NG) / dense_ms,
                    rng,
                )
            )
    return ends


def _ascended(
    widths_G: IntArray, rungs: list[IntArray], loss: Callable[[IntArray], FloatArray], rng: np.random.Generator
) -> IntArray:
    """Set group by group to its best width until a whole round changes nothing."""
    while True:
        before_G = widths_G
        for group in rng.permutation(len(rungs)).tolist():
            trials_NG = np.tile(widths_G, (len(rungs[group]), 1))
            trials_NG[:, group] = rungs[group]
            losses_N = loss(np.concatenate([widths_G[None], trials_NG]))
            if losses_N.min() < losses_N[0] - 1e-12:
                widths_G = trials_NG[int(np.argmin(losses_N)) - 1]
        if (widths_G == before_G).all():
            return widths_G
