"""Calibration images that show all classes, rare ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunekit.progress import counted

if TYPE_CHECKING:
    import numpy.typing as npt

    from prunekit.data.dataset import SegmentationDataset

_LOOKED_AT = 256
_RARE = 1e-4  # share of the pixels below which a class is taken for no rarer


def covering(dataset: SegmentationDataset, classes: int, count: int) -> list[int]:
    """Return the places of `count` images, or of all, that cover the classes; the same ones every time.

    Each is the one that adds most to the sum over classes of the square root of what is shown of a class, in units of
    its share of all pixels: the first pixels of a rare class count more than more of a frequent one.
    """
    step = max(1, len(dataset) // _LOOKED_AT)
    places = list(range(0, len(dataset), step))[:_LOOKED_AT]
    shown_NK = np.stack(
        [_shown(dataset, place, classes) for place in counted(places, "Choosing calibration images", len(places))]
    )
    value_NK = shown_NK / np.maximum(shown_NK.mean(axis=0), _RARE)
    left, sum_K = list(range(len(places))), np.zeros(classes)
    chosen: list[int] = []
    while left and len(chosen) < count:
        gains = [(np.sqrt(sum_K + value_NK[index]) - np.sqrt(sum_K)).sum() for index in left]
        best = left.pop(int(np.argmax(gains)))
        sum_K += value_NK[best]
        chosen.append(places[best])
    rest = [place for place in range(len(dataset)) if place not in set(places)]
    return sorted(chosen + rest[: count - len(chosen)])


def _shown(dataset: SegmentationDataset, place: int, classes: int) -> npt.NDArray[np.float64]:
    """Return each class's share of the pixels of an image, (K,)."""
    labels_HW = dataset[place].labels_HW.numpy()
    inside = labels_HW[(labels_HW >= 0) & (labels_HW < classes) & (labels_HW != dataset.classes.ignore_index)]
    return np.bincount(inside.astype(np.int64), minlength=classes) / labels_HW.size
