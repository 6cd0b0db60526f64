"""Count where labels agree.

K classes, H W a picture's size.
"""

import dataclasses
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from prunekit_runtime.checking.golden import IGNORED, Golden
from prunekit_runtime.preprocessing import ByteArray

Counts = npt.NDArray[np.int64]
_KINDS = 256  # of labels, 255 among them
MIN_PIXELS = 256  # of a class in all pictures; with less its IoU is chance


@dataclasses.dataclass
class Tally:
    """Pixels so far, by what was expected and what came."""

    against_expected: Counts = dataclasses.field(default_factory=lambda: _table())
    against_truth: Counts = dataclasses.field(default_factory=lambda: _table())
    expected_against_truth: Counts = dataclasses.field(default_factory=lambda: _table())
    edge_pixels: int = 0
    edge_same: int = 0

    def add(self, golden: Golden, labels_HW: ByteArray) -> None:
        """Count one picture."""
        self.against_expected += _counted(golden.labels_HW, labels_HW)
        edges_HW = beside_edges(golden.labels_HW)
        self.edge_pixels += int(edges_HW.sum())
        self.edge_same += int((golden.labels_HW == labels_HW)[edges_HW].sum())
        if golden.truth_HW is not None:
            self.against_truth += _counted(golden.truth_HW, labels_HW)
            self.expected_against_truth += _counted(golden.truth_HW, golden.labels_HW)

    @property
    def agreement(self) -> float:
        """Share of pixels with the expected label."""
        return float(np.trace(self.against_expected) / max(int(self.against_expected.sum()), 1))

    @property
    def edge_agreement(self) -> Optional[float]:
        """The same on pixels beside another class."""
        return self.edge_same / self.edge_pixels if self.edge_pixels else None

    def class_iou(self, names: "tuple[str, ...]") -> "dict[str, float]":
        """Return the IoU with the expected labels of each class that has pixels enough on either side."""
        iou_K = _iou(self.against_expected)
        most_K = np.maximum(self.against_expected.sum(1), self.against_expected.sum(0))
        return {name: float(iou_K[place]) for place, name in enumerate(names) if most_K[place] >= MIN_PIXELS}

    def miou(self) -> "tuple[Optional[float], Optional[float]]":
        """Return the mIoU against the truth, of these labels and of the expected ones."""
        return _mean_iou(self.against_truth), _mean_iou(self.expected_against_truth)


def beside_edges(labels_HW: ByteArray) -> npt.NDArray[Any]:
    """Return where a pixel has a neighbour, above, below, left or right, of another class: bool (H, W)."""
    edges_HW = np.zeros(labels_HW.shape, dtype=bool)
    vertical, horizontal = labels_HW[1:] != labels_HW[:-1], labels_HW[:, 1:] != labels_HW[:, :-1]
    edges_HW[1:] |= vertical
    edges_HW[:-1] |= vertical
    edges_HW[:, 1:] |= horizontal
    edges_HW[:, :-1] |= horizontal
    return edges_HW


def _table() -> Counts:
    return np.zeros((_KINDS, _KINDS), dtype=np.int64)


def _counted(expected_HW: ByteArray, got_HW: ByteArray) -> Counts:
    """Return pixels by (expected, got); ignored ones do not count."""
    places = expected_HW.astype(np.int64) * _KINDS + got_HW
    counts = np.bincount(places.ravel(), minlength=_KINDS * _KINDS).reshape(_KINDS, _KINDS)
    counts[IGNORED] = 0
    return counts


def _iou(counts: Counts) -> npt.NDArray[Any]:
    union_K = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return np.diag(counts) / np.maximum(union_K, 1)


def _mean_iou(counts: Counts) -> Optional[float]:
    known_K = counts.sum(1) > 0
    return float(_iou(counts)[known_K].mean()) if known_K.any() else None
