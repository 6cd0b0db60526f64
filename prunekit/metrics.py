"""Segmentation metrics from one int64 confusion matrix.

Shapes: K classes; the rows of the matrix are the true classes, the columns the predicted ones.
"""

from typing import Any

import torch
from torch import Tensor

from prunekit.errors import DataError


class ConfusionMatrix:
    """Counts of (true class, predicted class) over pixels, exact in int64.

    A class that is neither in the labels nor in the predictions has no IoU: it is nan in `iou_K`, null in
    `to_json`, and left out of `miou`. A class that is predicted but never true counts with IoU 0.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts_KK = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Count one image or batch; pixels labelled with the ignore index do not count.

        Args:
            labels: integers of any shape, classes or the ignore index.
            predictions: integers of the same shape, classes.

        Raises:
            DataError: the shapes differ or a value is no class.
        """
        if labels.shape != predictions.shape:
            raise DataError(
                f"Labels have the shape {list(labels.shape)}, predictions {list(predictions.shape)}. "
                "Resize the logits to the labels before counting."
            )
        kept = labels != self.ignore_index
        true_N, predicted_N = labels[kept].to(torch.int64), predictions[kept].to(torch.int64)
        _check_range("label", true_N, self.num_classes)
        _check_range("prediction", predicted_N, self.num_classes)
        pairs_N = true_N * self.num_classes + predicted_N
        counts = torch.bincount(pairs_N, minlength=self.num_classes**2)
        self.counts_KK += counts.reshape(self.num_classes, self.num_classes).to(self.counts_KK.device)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add the counts of `other`, which must have the same number of classes."""
        if other.num_classes != self.num_classes:
            raise DataError(
                f"Confusion matrices of {self.num_classes} and {other.num_classes} classes cannot be merged. "
                "Evaluate both on the same class map."
            )
        self.counts_KK += other.counts_KK

    @property
    def iou_K(self) -> Tensor:
        """Intersection over union of each class, float64; nan where the class does not occur."""
        hits_K = self.counts_KK.diagonal().double()
        union_K = self.counts_KK.sum(0).double() + self.counts_KK.sum(1).double() - hits_K
        return hits_K / union_K  # 0 / 0 is nan: the class is absent from labels and predictions

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur; nan if nothing was counted."""
        return float(self.iou_K.nanmean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right; nan if nothing was counted."""
        return float(self.counts_KK.diagonal().sum().double() / self.counts_KK.sum().double())

    @property
    def pixels(self) -> int:
        """Number of pixels counted."""
        return int(self.counts_KK.sum())

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as JSON values: nan becomes null, which JSON can hold."""
        return {
            "miou": _number(self.miou),
            "pixel_accuracy": _number(self.pixel_accuracy),
            "iou": [_number(value) for value in self.iou_K.tolist()],
            "pixels": self.pixels,
            "absent_classes": torch.nonzero(self.iou_K.isnan()).flatten().tolist(),
        }


def _check_range(what: str, values_N: Tensor, num_classes: int) -> None:
    if values_N.numel() == 0:
        return
    low, high = int(values_N.min()), int(values_N.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"A {what} is {low if low < 0 else high}, classes are 0 to {num_classes - 1}. "
            "Check that the model and the data set have the same classes."
        )


def _number(value: float) -> float | None:
    return None if value != value else value
