"""What a lower precision costs: labels and mIoU of a file on pictures with known labels, beside the float32 file's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.running.picturing import PictureModel, stacked
from prunekit_runtime.spelling import spelled

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


@dataclass(frozen=True)
class Cost:
    """A file's labels and mIoU beside those of the float32 file."""

    file: str
    judged: Judged
    reference: Judged
    max_drop: float
    """Of the mIoU."""

    @property
    def drop(self) -> float | None:
        """By how much the mIoU is below the float32 file's; None where no label is known."""
        before, after = self.reference.miou, self.judged.miou
        return None if before is None or after is None else before - after

    def to_json(self) -> dict[str, Any]:
        """Return the cost as a JSON object."""
        return {**dataclasses.asdict(self), "drop": self.drop}

    def check(self, advice: str) -> None:
        """Refuse a file that loses more than it may.

        Raises:
            ExportError: with the loss, and the advice.
        """
        if self.drop is not None and self.drop > self.max_drop:
            raise ExportError(
                f"{self.file} loses {100 * self.drop:.2f} points of mIoU on {self.judged.pictures} validation images "
                f"({100 * self.max_drop:g} are allowed). {advice}, or allow more "
                f"({spelled('--max-miou-drop', 'max_miou_drop')})."
            )


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

    def cost(self, path: Path, file: str, max_drop: float) -> Cost:
        """Return what the file at `path` costs, under the name `file`.

        Raises:
            RunnerError: as when it is called.
        """
        return Cost(file, self(path), self.reference, max_drop)

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
