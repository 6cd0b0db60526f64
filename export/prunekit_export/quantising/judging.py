"""What int8 costs: labels and mIoU of a file on pictures with known labels, beside those of the float32 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit.progress import counted
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.running.picturing import PictureModel, stacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prunekit_runtime.preprocessing import Preprocessing

LabelledPicture = tuple[ByteArray, ByteArray]
"""RGB (H, W, 3), and the class of each pixel (H, W), 255 where it does not count."""
IGNORED = 255


@dataclass(frozen=True)
class Judged:
    """Shares in [0, 1]."""

    agreement: float
    """Pixels with the label that the float32 file gives."""
    miou: float | None
    """Against the known labels; None where no pixel counts."""
    pictures: int


class Judge:
    """Compares files with a float32 file, in ONNX Runtime as written: its optimiser changes quantised numbers."""

    def __init__(
        self, reference: Path, contract: Preprocessing, pictures: Sequence[LabelledPicture], classes: int
    ) -> None:
        """Run the float32 file once."""
        self._contract, self._pictures, self._classes = contract, pictures, classes
        self._expected = list(self._labels(reference, pictures, "the float32 file"))
        self.reference = self._judged(self._expected, pictures)

    def __call__(self, path: Path, count: int | None = None) -> Judged:
        """Return what comes of a file on all pictures, or on the first `count`.

        Raises:
            RunnerError: it does not run, or its logits are not finite.
        """
        pictures = self._pictures[:count]
        return self._judged(list(self._labels(path, pictures, path.name)), pictures)

    def drop(self, judged: Judged) -> float:
        """Return by how much the mIoU of all pictures is below the float32 file's; 0 where there is none."""
        return 0.0 if judged.miou is None or self.reference.miou is None else self.reference.miou - judged.miou

    def _labels(self, path: Path, pictures: Sequence[LabelledPicture], words: str) -> Iterator[ByteArray]:
        with OrtRunner(path, optimise=False) as runner:
            model = PictureModel(runner, self._contract)
            for picture_HW3, _ in counted(pictures, f"Labelling with {words}", len(pictures)):
                inputs = stacked([model.prepare(picture_HW3)], model.input_shape[0])
                yield model.labels(model.compute(inputs)[:1], *picture_HW3.shape[:2])

    def _judged(self, labels: list[ByteArray], pictures: Sequence[LabelledPicture]) -> Judged:
        pairs = zip(labels, self._expected, strict=False)
        same = sum(int((got_HW == want_HW).sum()) for got_HW, want_HW in pairs)
        return Judged(same / max(sum(each.size for each in labels), 1), self._miou(labels, pictures), len(pictures))

    def _miou(self, labels: list[ByteArray], pictures: Sequence[LabelledPicture]) -> float | None:
        import torch

        from prunekit.metrics import ConfusionMatrix

        matrix = ConfusionMatrix(self._classes, IGNORED)
        for got_HW, (_, truth_HW) in zip(labels, pictures, strict=True):
            matrix.update(torch.from_numpy(truth_HW.astype(np.int64)), torch.from_numpy(got_HW))
        found: Any = matrix.to_json()["miou"]
        return found
