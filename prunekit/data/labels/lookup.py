"""Masks whose numbers are not the classes themselves: a lookup table from one to the other.

Shapes: H height, W width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.images import MASK_FORMATS, label_array, load
from prunekit.errors import DataError

_NUMBERS: Final = 256  # of an 8-bit mask
_UNKNOWN: Final = -1


class Lookup:
    """The label of each number that masks hold."""

    def __init__(self, label_of: Mapping[int, int]) -> None:
        """Make the table.

        Args:
            label_of: 0 to 255 -> a class, or the ignore index for pixels that do not count.

        Raises:
            ValueError: a number or a label is out of range.
        """
        if not all(0 <= number < _NUMBERS and 0 <= label <= IGNORE_INDEX for number, label in label_of.items()):
            raise ValueError(f"numbers and labels are 0 to 255, got {dict(label_of)}")
        self._labels = np.full(_NUMBERS + 1, _UNKNOWN, dtype=np.int16)  # the last stands for what is no 8-bit number
        self._labels[list(label_of.keys())] = list(label_of.values())

    def read(self, path: Path, remedy: str) -> npt.NDArray[np.uint8]:
        """Read a mask as labels, uint8 [H, W].

        Args:
            path: the PNG.
            remedy: what to do about a number that is not in the table, as a sentence.

        Raises:
            DataError: the file is no index mask, or holds a number that is not in the table.
        """
        stored_HW = label_array(load(path, MASK_FORMATS, as_stored=True), path)
        places_HW = np.where((stored_HW >= 0) & (stored_HW < _NUMBERS), stored_HW, _NUMBERS)
        labels_HW = self._labels[places_HW]
        unknown = stored_HW[labels_HW == _UNKNOWN]
        if unknown.size:
            number = int(unknown.max())
            raise DataError(
                f"Mask {path} holds {number} at {int((unknown == number).sum())} pixels, which is no label of this "
                f"data set. {remedy}"
            )
        return labels_HW.astype(np.uint8)
