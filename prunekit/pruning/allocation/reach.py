"""How far a network can be cut at all, which follows from its coupling alone: no data, no ranking, no search."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from prunekit.errors import PruneUsageError
from prunekit.pruning.allocation.allocator import check_any_free, cost_model
from prunekit.pruning.allocation.grid import FLOOR_SHARE, Grid
from prunekit.pruning.allocation.targets import TOLERANCE, Target
from prunekit.pruning.coupling import Coupling

_DIGITS: Final = 1000  # a ratio is advised in thousandths, rounded down, which is finer than the tolerance


def least_cost(coupling: Coupling, target: Target, align: int, floor: float = FLOOR_SHARE) -> float:
    """Return the cost with every free group at its least width, in the unit of the target: MACs or parameters."""
    grid = Grid(coupling, align, floor)
    return _cost(coupling, target, dict(zip(grid.names, grid.floor_G.tolist(), strict=True)))


def _cost(coupling: Coupling, target: Target, widths: Mapping[str, int]) -> float:
    rising = {group.name: np.arange(group.width) for group in coupling.free}
    falling = {name: order_U[::-1] for name, order_U in rising.items()}
    # Units of a group may differ (one that a grouped layer reads less often), so their order may matter a little.
    return min(cost_model(coupling, orders, target).total(widths) for orders in (rising, falling))


def check_reach(coupling: Coupling, target: Target, align: int, floor: float = FLOOR_SHARE) -> None:
    """Refuse a target in MACs or parameters that no choice of channels meets.

    Raises:
        PruneError: it asks for nothing, or for more than can go; says how much that is, and which option asks for it.
    """
    check_any_free(coupling)
    dense = _cost(coupling, target, {})
    wanted, least = target.wanted(dense), least_cost(coupling, target, align, floor)
    if wanted >= least - TOLERANCE * dense:
        return
    finer = least_cost(coupling, target, 1, floor) if align > 1 else least
    steps = f", with channel counts in multiples of {align}" if align > 1 else ""
    advice = _at_most(target, least, dense)
    share = "none" if advice is None else f"at most {_share(least, dense):.3f}"
    most = f"{share} of the {target.unit} of this network can go{steps}"
    further = f" With --align 1, {_share(finer, dense):.3f} can." if finer < least - TOLERANCE * dense else ""
    ask = f" Ask for {advice.flag}." if advice is not None else ""
    raise PruneUsageError(f"{target.flag} is out of reach: {most} ({target.text(least)} stay).{ask}{further}")


def _share(cost: float, dense: float) -> float:
    return math.floor(_DIGITS * (1 - cost / dense)) / _DIGITS


def _at_most(target: Target, least: float, dense: float) -> Target | None:
    """Return the target of the same kind that asks for as much as can go; None where nothing can."""
    share = _share(least, dense)
    if share <= 0:
        return None
    return Target("ratio", share) if target.kind == "ratio" else target.leaving(least, dense)
