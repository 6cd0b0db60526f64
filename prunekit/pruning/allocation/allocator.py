"""How many units each group keeps, so that a target is met: `allocate`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunekit.errors import PruneError, PruneUsageError
from prunekit.pruning.allocation.balance import even_prices
from prunekit.pruning.allocation.costs import CostModel, LatencyCost, LayerTable, MacsCost, Orders, ParamsCost
from prunekit.pruning.allocation.grid import FLOOR_SHARE, Grid
from prunekit.pruning.allocation.ranked import Policy, by_cost, by_price, uniform
from prunekit.pruning.allocation.search import Problem, neighbours
from prunekit.pruning.allocation.targets import CLOSE, TOLERANCE, Target
from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Coupling, Group
from prunekit_runtime.spelling import option

if TYPE_CHECKING:
    from prunekit.pruning.evidence import Ranking, Rankings

PolicyName = Literal["uniform", "global", "cost", "balanced"]

POLICIES: Mapping[str, Policy] = {"uniform": uniform, "global": by_price, "cost": by_cost, "balanced": by_cost}
"""The same share everywhere; one threshold on the price of a unit; one on its price per saved cost; the same with the
prices of even shares."""
_PRICED = ("global", "cost")
"""What compares the criterion's prices across groups."""

_ATTEMPTS = 8


@dataclass(frozen=True)
class Allocation:
    """Which units every free group keeps, and what that costs in the target's unit."""

    keep: dict[str, list[int]]
    """Sorted unit positions by group name, as `make_plan` takes them."""
    widths: dict[str, int]
    """How many those are."""
    cost_before: float
    cost_after: float
    target: Target
    policy: str
    align: int


def allocate(
    coupling: Coupling,
    rankings: "Rankings",
    target: Target,
    *,
    policy: PolicyName = "uniform",
    align: int = 8,
    floor: float = FLOOR_SHARE,
    table: LayerTable | None = None,
    tolerance: float = TOLERANCE,
) -> Allocation:
    """Choose how many units each group keeps; the ranking says which.

    No forward pass is run: costs follow from the coupling, milliseconds from the table.

    Args:
        coupling: the analysis of the dense network.
        rankings: the ranking of every free group; "global" and "cost" compare their prices across groups.
        target: what shall be left.
        policy: "uniform" takes the same share of every group, "global" what has the least price anywhere, "cost" what
            has the least price for what it saves, of MACs, parameters or milliseconds as the target counts, "balanced"
            shares as equal as they can be for what they save; see `even_prices`.
        align: every layer keeps a multiple of this many channels of a group; a group that is no wider stays whole.
        floor: share of its units that each group keeps at least; one unit always stays.
        table: measured layers, for a latency target.
        tolerance: how far the cost may be from the target, as a share of the dense network's.

    Raises:
        PruneError: nothing can be removed, the rankings do not fit, or the target is out of reach; the message names
            the nearest value within reach and the option to write.
    """
    if policy not in POLICIES:
        raise PruneUsageError(f"The allocation is one of {', '.join(POLICIES)}, got {policy}.")
    _check_rankings(coupling, rankings, priced=policy in _PRICED)
    rankings = even_prices(coupling, rankings) if policy == "balanced" else rankings
    grid = Grid(coupling, align, floor)
    cost = cost_model(coupling, {name: ranking.order_U for name, ranking in rankings.items()}, target, table)
    # Kernels take several channels at once, so measured time jumps at widths between: aligned ones are tried as well.
    steps = [step for step in (4, 8) if align % step] if target.kind == "latency" else []
    coarser = tuple(Grid(coupling, math.lcm(align, step), floor) for step in steps)
    ordered = [rankings[name] for name in grid.names]
    search = _Search(grid, coarser, cost, POLICIES[policy], ordered, tolerance)
    widths_G, met = search.towards(target)
    if not met:
        raise PruneUsageError(_out_of_reach(target, search.nearest(target, widths_G), align))
    widths = dict(zip(grid.names, widths_G.tolist(), strict=True))
    keep = {name: rankings[name].kept(width) for name, width in widths.items()}
    return Allocation(keep, widths, search.dense, search.cost_of(widths_G), target, policy, align)


def cost_model(coupling: Coupling, orders: Orders, target: Target, table: LayerTable | None = None) -> CostModel:
    """Return the cost that a target counts.

    Raises:
        PruneError: a latency target without a table, or with one of another network.
    """
    if target.kind == "latency":
        if table is None:
            raise PruneError("A latency target needs a latency table of this network on this machine. Measure it.")
        return LatencyCost(coupling, orders, table)
    return ParamsCost(coupling, orders) if target.kind == "params" else MacsCost(coupling, orders)


def check_any_free(coupling: Coupling) -> None:
    """Refuse a network all of whose channels must stay.

    Raises:
        PruneError: it is one; names the reasons.
    """
    if not coupling.free:
        reasons = sorted({group.frozen or "" for group in coupling.groups})
        raise PruneError(f"No channel of this network can be removed: {'; '.join(reasons)}.")


def _check_rankings(coupling: Coupling, rankings: "Rankings", *, priced: bool) -> None:
    check_any_free(coupling)
    free = {group.name: group for group in coupling.free}
    if rankings.keys() != free.keys():
        odd = sorted(rankings.keys() ^ free.keys())
        raise PruneError(f"Every group that may be pruned needs one ranking and no other; wrong: {', '.join(odd)}.")
    for name, ranking in rankings.items():
        _check_ranking(free[name], ranking, priced=priced)


def _check_ranking(group: Group, ranking: "Ranking", *, priced: bool) -> None:
    if not np.array_equal(np.sort(ranking.order_U), np.arange(group.width)):
        raise PruneError(f"The ranking of group {group.name} is not an order of its {group.width} units.")
    price_U = np.asarray(ranking.price_U)
    sound = price_U.shape == (group.width,) and bool(np.all(np.isfinite(price_U) & (price_U >= 0)))
    if priced and not sound:
        raise PruneError(
            f"The prices of group {group.name} must be {group.width} finite numbers of at least 0 to be compared with "
            "those of other groups. Use the uniform allocation with this criterion."
        )


@dataclass(frozen=True)
class _Search:
    """What is the same for every target that is tried."""

    grid: Grid
    coarser: tuple[Grid, ...]
    cost: CostModel
    policy: Policy
    rankings: "list[Ranking]"
    tolerance: float

    @property
    def dense(self) -> float:
        """Cost of the network as it is."""
        return self.cost_of(self.grid.whole_G)

    def cost_of(self, widths_G: IntArray) -> float:
        """Return the cost at these widths."""
        return float(self.cost.totals(widths_G[None])[0])

    def towards(self, target: Target) -> tuple[IntArray, bool]:
        """Return the widths found for a target, and whether they meet it."""
        wanted, allowed = target.wanted(self.dense), self.tolerance * self.dense
        problem = Problem(self.grid, self.cost, wanted, allowed, CLOSE * allowed, self.coarser)
        widths_G = self.policy(problem, self.rankings)
        return widths_G, problem.error(widths_G) <= allowed

    def nearest(self, target: Target, widths_G: IntArray) -> Target | None:
        """Return a target that this search meets, near to one that it does not; None where nothing can be saved."""
        for _ in range(_ATTEMPTS):
            cost = self.cost_of(widths_G)
            cost = cost if cost < self.dense else self._least_saving()
            if cost >= self.dense:
                return None
            target = target.leaving(cost, self.dense)
            widths_G, met = self.towards(target)
            if met:
                return target
        return None

    def _least_saving(self) -> float:
        """Return the highest cost below the dense one that one step of one group leads to, or else the dense one."""
        totals_N = self.cost.totals(np.concatenate([self.grid.whole_G[None], neighbours(self.grid, self.grid.whole_G)]))
        return float(np.max(totals_N[1:], where=totals_N[1:] < totals_N[0], initial=0.0)) or float(totals_N[0])


def _out_of_reach(target: Target, nearest: Target | None, align: int) -> str:
    asked = f"A ratio of {target.value:.3f}" if target.kind == "ratio" else f"A target of {target.text(target.value)}"
    if nearest is None and align > 1:
        return (
            f"{asked} is out of reach: no group can lose {align} channels, or none saves. "
            f"Allow finer steps: {option('align', 1)}."
        )
    if nearest is None:
        return f"{asked} is out of reach, and nothing near it was found. Ask for another."
    finer = f" Or allow finer steps: {option('align', 1)}." if align > 1 else ""
    found = f"{nearest.value:.3f}" if target.kind == "ratio" else target.text(nearest.value)
    return f"{asked} is out of reach; the nearest found is {found}. Ask for {nearest.flag}.{finer}"
