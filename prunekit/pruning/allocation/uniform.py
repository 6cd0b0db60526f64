"""The same share of every group, in one call: what a script needs that has scores, or none."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from prunekit.errors import PruneError
from prunekit.pruning.allocation.allocator import allocate
from prunekit.pruning.allocation.targets import Target
from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.criteria.ranking import Ranking, by_score
from prunekit.pruning.plan import Plan, make_plan

TOLERANCE = 0.01


def uniform_plan(
    coupling: Coupling, ratio: float = 0.5, align: int = 1, scores: Mapping[str, npt.ArrayLike] | None = None
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
    coupling: Coupling, ratio: float, align: int, scores: Mapping[str, npt.ArrayLike] | None = None
) -> dict[str, list[int]]:
    """Return the kept unit positions per group behind `uniform_plan`."""
    rankings = {group.name: _ranking(group, scores or {}) for group in coupling.free}
    return allocate(coupling, rankings, Target("ratio", ratio), align=align, tolerance=TOLERANCE).keep


def _ranking(group: Group, scores: Mapping[str, npt.ArrayLike]) -> Ranking:
    if group.name not in scores:
        return Ranking(np.arange(group.width)[::-1].copy(), np.zeros(group.width))
    score_U = np.asarray(scores[group.name], dtype=np.float64)
    if score_U.shape != (group.width,):
        raise PruneError(f"Group {group.name} has {group.width} units, but its scores have the shape {score_U.shape}.")
    return by_score(score_U)
