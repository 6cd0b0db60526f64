"""The same share of every group, in one call: what a script needs that has scores, or wants any cut at all."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from prunekit.errors import PruneError
from prunekit.pruning.allocation.allocator import allocate
from prunekit.pruning.allocation.targets import Target
from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.evidence import Ranking, by_score
from prunekit.pruning.surgery import Plan, make_plan

TOLERANCE = 0.01

Scores = Mapping[str, npt.ArrayLike]
"""Importance of the units of every free group, by its name; the lowest go first."""


def uniform_plan(coupling: Coupling, ratio: float = 0.5, align: int = 1, *, scores: Scores) -> Plan:
    """Remove the share `ratio` of the MACs, the same share of every free group, the least important units first.

    Args:
        coupling: the analysis.
        ratio: share of MACs to remove, in [0, 1); met within 1 point.
        align: channels are kept in multiples of this; a group that is no wider stays whole.
        scores: for each free group the importance of its units; the lowest go first.

    Raises:
        PruneError: a group has no scores, or the wrong number of them, or one that is not finite; the ratio is out of
            range or out of reach, and the message names the nearest share.
    """
    return make_plan(coupling, uniform_keep(coupling, ratio, align, scores))


def arbitrary_plan(coupling: Coupling, ratio: float = 0.5, align: int = 1) -> Plan:
    """Remove the same share of every free group whatever it is worth: its last units. To measure speed or try a cut.

    A trained network loses what those channels knew; to keep it, choose by a criterion (`uniform_plan`,
    `prunekit.prune`).

    Args:
        coupling: the analysis.
        ratio: share of MACs to remove, in [0, 1); met within 1 point.
        align: channels are kept in multiples of this; a group that is no wider stays whole.

    Raises:
        PruneError: the ratio is out of range or out of reach; the message names the nearest share.
    """
    return uniform_plan(coupling, ratio, align, scores={g.name: -np.arange(g.width) for g in coupling.free})


def uniform_keep(coupling: Coupling, ratio: float, align: int, scores: Scores) -> dict[str, list[int]]:
    """Return the kept unit positions per group behind `uniform_plan`."""
    rankings = {group.name: _ranking(group, scores) for group in coupling.free}
    return allocate(coupling, rankings, Target("ratio", ratio), align=align, tolerance=TOLERANCE).keep


def _ranking(group: Group, scores: Scores) -> Ranking:
    if group.name not in scores:
        raise PruneError(
            f"Group {group.name} has no scores. Give its {group.width} units an importance each, or take "
            "arbitrary_plan, which removes channels whatever they are worth."
        )
    score_U = np.asarray(scores[group.name], dtype=np.float64)
    if score_U.shape != (group.width,):
        raise PruneError(f"Group {group.name} has {group.width} units, but its scores have the shape {score_U.shape}.")
    if not np.isfinite(score_U).all():
        raise PruneError(
            f"Group {group.name} has a score that is not a finite number. Check what it was computed from."
        )
    return by_score(score_U)
