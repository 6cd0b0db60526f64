"""Which classes a view shows, known before it is drawn: its window, counted on masks of a quarter of the resolution.

Shapes: N samples, K classes, h w the size of the small masks.
"""

import math
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prunekit.data.dataset import Sample, SegmentationDataset
from prunekit.data.loading import ViewKey, of_each_sample
from prunekit.data.transforms import TrainTransform, crop_size
from prunekit.progress import counted
from prunekit.recipe import DataConfig

STRIDE: Final = 4  # px between the pixels that are counted
_FIRST: Final = STRIDE // 2  # the pixel of a cell that stands for it

_SMALL: WeakKeyDictionary[SegmentationDataset, dict[tuple[int, int], npt.NDArray[np.uint8]]] = WeakKeyDictionary()


class ViewClasses:
    """Counts the classes of views; the small masks are made once, and kept for as long as the data set lives."""

    def __init__(self, dataset: SegmentationDataset, data: DataConfig, *, workers: int, cache: bool) -> None:
        self._masks_Nhw = _small_masks(dataset, data, workers, cache)
        self._classes = len(dataset.classes)
        self._transform = TrainTransform(data)
        self._size_hw = (data.height, data.width)
        rows, columns = crop_size(data)
        self._crop_pixels = rows * columns

    def pixels_of_all(self) -> npt.NDArray[np.int64]:
        """Return how often each class is counted in all masks, int64 [K]."""
        return np.bincount(self._masks_Nhw.ravel(), minlength=256)[: self._classes]

    def share(self, key: ViewKey) -> npt.NDArray[np.float64]:
        """Return each class's share of a view's pixels, as counted at stride 4, float64 [K]."""
        window = self._transform.window(*self._size_hw, key.seed)
        rows = _cells(window.top, window.bottom, self._size_hw[0])
        columns = _cells(window.left, window.right, self._size_hw[1])
        counts_K = np.bincount(self._masks_Nhw[key.index, rows, columns].ravel(), minlength=256)[: self._classes]
        return counts_K.astype(np.float64) * (STRIDE**2 * window.scale_y * window.scale_x / self._crop_pixels)


def _cells(start: float, end: float, side: int) -> slice:
    """Return which of the counted pixels have their centres between two shares of a side."""
    first, last = (max(0, math.ceil((share * side - _FIRST - 0.5) / STRIDE)) for share in (start, end))
    return slice(first, last)


def _small_masks(dataset: SegmentationDataset, data: DataConfig, workers: int, cache: bool) -> npt.NDArray[np.uint8]:
    by_size, size_hw = _SMALL.setdefault(dataset, {}), (data.height, data.width)
    if size_hw not in by_size:
        each = of_each_sample(dataset, data, _small, workers=workers, cache=cache)
        by_size[size_hw] = torch.stack(list(counted(each, "Reading labels", len(dataset)))).numpy()
    return by_size[size_hw]


def _small(sample: Sample) -> Tensor:
    return sample.labels_HW[_FIRST::STRIDE, _FIRST::STRIDE].clone()
