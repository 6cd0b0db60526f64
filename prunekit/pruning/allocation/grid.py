"""Which widths a group may have: multiples of the alignment, from a floor up to the whole group.

Shapes: G free groups, N candidates.
"""

import math

import numpy as np

from prunekit.errors import PruneError
from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Coupling, Group

FLOOR_SHARE = 0.02
"""A group keeps at least this share of its units: the floor of SIRFP's code (sirfp.md 1.2 e)."""


class Grid:
    """The rungs of every free group of a network."""

    def __init__(self, coupling: Coupling, align: int, floor: float = FLOOR_SHARE) -> None:
        if align < 1:
            raise PruneError(f"The alignment must be at least 1 channel, got {align}. Write 8, or 1 for exact counts.")
        if not 0 <= floor <= 1:
            raise PruneError(f"The floor must be a share in [0, 1], got {floor}.")
        groups = coupling.free
        self.names = tuple(group.name for group in groups)
        self.whole_G = np.array([group.width for group in groups], dtype=np.int64)
        self.step_G = np.array([aligned_step(group, align) for group in groups], dtype=np.int64)
        least_G = np.maximum(1, np.ceil(floor * self.whole_G).astype(np.int64))
        self.floor_G = np.minimum(self.whole_G, -(-least_G // self.step_G) * self.step_G)

    def wider(self, widths_NG: IntArray, rungs: int | IntArray = 1) -> IntArray:
        """Return widths so many rungs up, at most whole."""
        return np.minimum(self.whole_G, (widths_NG // self.step_G + rungs) * self.step_G)

    def narrower(self, widths_NG: IntArray, rungs: int | IntArray = 1) -> IntArray:
        """Return widths so many rungs down, at least the floor."""
        return np.maximum(self.floor_G, (-(-widths_NG // self.step_G) - rungs) * self.step_G)

    def rungs(self, group: int) -> IntArray:
        """Return the widths of one group from whole to floor."""
        whole, step = int(self.whole_G[group]), int(self.step_G[group])
        inner = np.arange((whole - 1) // step * step, self.floor_G[group] - 1, -step)
        return np.array([whole, *inner], dtype=np.int64)


def aligned_step(group: Group, align: int) -> int:
    """Return the number of units that makes a multiple of `align` channels in every layer that makes or reads them.

    A unit brings several channels where a grouped convolution, a split or a pixel shuffle ties them.
    """
    per_unit = [_channels_per_unit(group, slot.labels) for slot in group.slots if slot.role in ("out", "in")]
    return align // math.gcd(align, *per_unit)


def _channels_per_unit(group: Group, labels: IntArray) -> int:
    return int(np.isin(labels, group.units, kind="table").sum()) // group.width
