"""Connected regions of a class in a label map, by runs: fast without a library for it.

Shapes: H height, W width, R runs. A run is a longest stretch of true pixels in one row.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Regions:
    """The 8-connected regions of a mask, numbered from 0 by their first pixel in reading order."""

    row_R: IntArray
    start_R: IntArray
    """First column of each run."""
    end_R: IntArray
    """Column after the last."""
    region_R: IntArray
    """Region of each run."""

    @property
    def count(self) -> int:
        """Number of regions."""
        return int(self.region_R.max()) + 1 if len(self.region_R) else 0

    def centre(self, region: int) -> tuple[int, int]:
        """Return (row, column) of the region's pixel that is nearest to the middle of its bounding box."""
        own = self.region_R == region
        rows, starts, ends = self.row_R[own], self.start_R[own], self.end_R[own]
        middle_row, middle_column = (rows[0] + rows[-1]) / 2, (starts.min() + ends.max() - 1) / 2
        nearest = np.clip(round(middle_column), starts, ends - 1)
        best = int(np.argmin((rows - middle_row) ** 2 + (nearest - middle_column) ** 2))
        return int(rows[best]), int(nearest[best])


def regions_of(mask_HW: BoolArray) -> Regions:
    """Return the 8-connected regions of a mask."""
    row_R, start_R, end_R = _runs(mask_HW)
    above_E, below_E = _touching(row_R, start_R, end_R, mask_HW.shape[1])
    roots_R = _joined(len(row_R), above_E, below_E)
    # Roots are the lowest run of each region, so their order is the reading order.
    return Regions(row_R, start_R, end_R, np.unique(roots_R, return_inverse=True)[1].astype(np.int64))


def _runs(mask_HW: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    edges = np.diff(np.pad(mask_HW, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    return rows, starts, np.nonzero(edges == -1)[1]


def _touching(row_R: IntArray, start_R: IntArray, end_R: IntArray, width: int) -> tuple[IntArray, IntArray]:
    """Return the pairs of runs in neighbouring rows that overlap or meet at a corner."""
    stride = width + 2  # more than any column, so that a key orders by row, then by column
    below = (row_R + 1) * stride
    first_R = np.searchsorted(row_R * stride + end_R, below + start_R, side="left")
    last_R = np.searchsorted(row_R * stride + start_R, below + end_R, side="right")
    count_R = np.maximum(last_R - first_R, 0)
    above_E = np.repeat(np.arange(len(row_R)), count_R)
    within_E = np.arange(len(above_E)) - np.repeat(np.cumsum(count_R) - count_R, count_R)
    return above_E, first_R[above_E] + within_E


def _joined(count: int, above_E: IntArray, below_E: IntArray) -> IntArray:
    """Return the lowest run that each run is connected to: lowest neighbours and pointer jumping, in turns."""
    root_R = np.arange(count)
    while True:
        lowest_E = np.minimum(root_R[above_E], root_R[below_E])
        joined_R = root_R.copy()
        # Onto the roots, not only the runs: whole regions join at once.
        np.minimum.at(joined_R, root_R[above_E], lowest_E)
        np.minimum.at(joined_R, root_R[below_E], lowest_E)
        while not np.array_equal(joined_R, joined_R[joined_R]):
            joined_R = joined_R[joined_R]
        if np.array_equal(joined_R, root_R):
            return root_R
        root_R = joined_R
