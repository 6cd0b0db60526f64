"""The embedded data set: generated street scenes, the same for the same (seed, split, position), of any size.

They stand in for real scenes where a chain is tried out: perspective, occlusion, light and texture that vary,
thin classes (pole, lane marking) and rare ones (sign, pedestrian), and an own bonnet that is ignored.
"""

from collections.abc import Mapping
from typing import Final

import torch

from prunekit.data.dataset import Sample, Split, check_position
from prunekit.data.scenes.dice import Dice
from prunekit.data.scenes.labels import CLASSES
from prunekit.data.scenes.scene import render
from prunekit.errors import DataUsageError

MIN_SIDE: Final = 16  # px; below, nothing in a scene can be told apart
MAX_SIDE: Final = 4096
_SPLITS: Final[Mapping[Split, int]] = {"train": 0, "val": 1, "test": 2}


class ShapesDataset:
    """Street scenes made when they are asked for; nothing is stored.

    Raises:
        DataError: the count is below 1, or a side out of range.
    """

    def __init__(self, split: Split, count: int, *, height: int, width: int, seed: int = 0) -> None:
        if count < 1:
            raise DataUsageError(f"The shapes data set makes 1 scene or more, got {count}. Raise data.{split}_images.")
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
            raise DataUsageError(
                f"Scenes have sides of {MIN_SIDE} to {MAX_SIDE} pixels, got height {height} and width {width}. "
                "Change data.height and data.width."
            )
        self.classes = CLASSES
        self._split: Split = split
        self._count, self._seed = count, seed
        self._height, self._width = height, width

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        dice = Dice(self._seed, _SPLITS[self._split], check_position(index, self._count))
        image_HW3, labels_HW = render(self._height, self._width, dice)
        image_3HW = torch.from_numpy(image_HW3).permute(2, 0, 1).contiguous()
        return Sample(image_3HW, torch.from_numpy(labels_HW), f"{self._split}-{index:05d}")
