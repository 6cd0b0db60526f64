"""How many channels each group keeps: the same share everywhere, found by bisection on the analytic cost."""

import math
from collections.abc import Mapping

import numpy as np

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.ids import IntArray
from prunekit.pruning.plan import Plan, make_plan

# A group keeps at least this share of its channels: the floor of SIRFP's reference implementation.
FLOOR_SHARE = 0.02
TOLERANCE = 0.01


def uniform_plan(
    coupling: Coupling, ratio: float = 0.5, align: int = 1, scores: Mapping[str, IntArray] | None = None
) -> Plan:
    """Remove the share `ratio` of the MACs, the same share of every free group.

    Args:
        coupling: the analysis.
        ratio: share of MACs to remove, in [0, 1); met within 1 point.
        align: channels are kept in multiples of this; a group that is no wider stays whole.
        scores: for each group the importance of its units; the lowest go first. Without it the last units go.

    Raises:
        PruneError: the ratio is out of range or out of reach; the message names the nearest share.
    """
    return make_plan(coupling, uniform_keep(coupling, ratio, align, scores))


def uniform_keep(
    coupling: Coupling, ratio: float, align: int, scores: Mapping[str, IntArray] | None = None
) -> dict[str, list[int]]:
    """Return the kept unit positions per group behind `uniform_plan`."""
    if not 0 <= ratio < 1:
        raise PruneError(f"The ratio must be in [0, 1), got {ratio}. Write 0.5 to remove half of the MACs.")
    if not coupling.free:
        reasons = sorted({group.frozen or "" for group in coupling.groups})
        raise PruneError(f"No channel of this network can be removed: {'; '.join(reasons)}.")
    orders = {group.name: _order(group, scores) for group in coupling.free}
    widths = _widths(coupling, ratio, align, orders)
    keep = {name: sorted(orders[name][-width:].tolist()) for name, width in widths.items()}
    _check_reached(coupling, keep, ratio, align)
    return keep


def _order(group: Group, scores: Mapping[str, IntArray] | None) -> IntArray:
    """Return unit positions, the first to go first."""
    if scores is None or group.name not in scores:
        return np.arange(group.width)[::-1]
    return np.argsort(np.asarray(scores[group.name]), kind="stable")


def _widths(coupling: Coupling, ratio: float, align: int, orders: Mapping[str, IntArray]) -> dict[str, int]:
    """Bisect on the common share, then trim single groups until the target is met as closely as steps allow."""
    target = (1 - ratio) * coupling.macs()
    low, high = 0.0, 1.0
    for _ in range(30):  # 2^-30 is finer than one channel of any layer
        middle = (low + high) / 2
        widths = {group.name: _round(group, middle, align) for group in coupling.free}
        low, high = (middle, high) if _macs(coupling, widths, orders) <= target else (low, middle)
    below = {group.name: _round(group, low, align) for group in coupling.free}
    return _approach(coupling, below, target, align, orders)


def _approach(
    coupling: Coupling, widths: dict[str, int], target: float, align: int, orders: Mapping[str, IntArray]
) -> dict[str, int]:
    """Step single groups wider or narrower while that brings the cost nearer; wide groups first, they notice least."""
    close = TOLERANCE / 4 * coupling.macs()
    error = abs(_macs(coupling, widths, orders) - target)
    while error > close:
        trials = [{**widths, name: width} for name, width in _steps(coupling, widths, align)]
        errors = [abs(_macs(coupling, trial, orders) - target) for trial in trials]
        near = [index for index, value in enumerate(errors) if value <= close] or [int(np.argmin(errors))]
        if errors[near[0]] >= error:
            break
        widths, error = trials[near[0]], errors[near[0]]
    return widths


def _steps(coupling: Coupling, widths: Mapping[str, int], align: int) -> list[tuple[str, int]]:
    """Return the next wider and the next narrower width of each group, widest groups first."""
    steps: list[tuple[str, int]] = []
    for group in sorted(coupling.free, key=lambda group: -widths[group.name]):
        width, step = widths[group.name], _step(group, align)
        wider, narrower = min(group.width, width + step), max(_floor(group, step), (width - 1) // step * step)
        steps += [(group.name, value) for value in (wider, narrower) if value != width]
    return steps


def _round(group: Group, share: float, align: int) -> int:
    step = _step(group, align)
    wanted = round(share * group.width / step) * step
    return min(group.width, max(_floor(group, step), wanted))


def _step(group: Group, align: int) -> int:
    """Units that make `align` channels; a unit of a grouped convolution brings several."""
    return align // math.gcd(align, group.channels_per_unit)


def _floor(group: Group, step: int) -> int:
    share = math.ceil(FLOOR_SHARE * group.width)
    return min(group.width, max(1, math.ceil(share / step) * step))


def _macs(coupling: Coupling, widths: Mapping[str, int], orders: Mapping[str, IntArray]) -> int:
    return coupling.macs({name: orders[name][-width:].tolist() for name, width in widths.items()})


def _check_reached(coupling: Coupling, keep: Mapping[str, list[int]], ratio: float, align: int) -> None:
    reached = 1 - coupling.macs(keep) / coupling.macs()
    if abs(reached - ratio) > TOLERANCE:
        finer = " Or allow finer steps: align = 1." if align > 1 else ""
        raise PruneError(
            f"A ratio of {ratio:.3f} of the MACs is out of reach; the nearest found is {reached:.3f}. "
            f"Ask for --ratio {reached:.3f}.{finer}"
        )
