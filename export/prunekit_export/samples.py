"""Images of a data set, for what an export needs them: to calibrate, to compare, to judge.

H W an image's size, h w the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunekit_export.errors import ExportUsageError
from prunekit_runtime.errors import PrunekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from prunekit.data.dataset import Sample, SegmentationDataset, Split
    from prunekit.recipe import DataConfig
    from prunekit.run import RunDirectory
    from prunekit_export.quantising import LabelledPicture
    from prunekit_runtime.preprocessing import ByteArray, Preprocessing

# Validation images on which the files are compared with the network, by which int8 is judged, and by which fp16 is,
# which loses less.
PARITY_PICTURES, JUDGED_PICTURES, HALF_JUDGED_PICTURES = 4, 128, 16
# Training images to calibrate with: what overflows is seen on few, the range of every activation on more.
USUAL_IMAGES, INT8_IMAGES = 16, 64


def samples_of_run(source: RunDirectory, root: str | None, *, trust_code: bool) -> Samples:
    """Return the images of a run's data set; `root` is its folder where it is no longer where the run says."""
    from prunekit.data_paths import root_override

    def data() -> DataConfig:
        return source.recipe(root_override(root)).data

    return Samples(data, named=root is not None, trust_code=trust_code)


@dataclass(frozen=True)
class Samples:
    """Images of a data set."""

    data: Callable[[], DataConfig]
    """Says which one."""
    named: bool
    """By the user, so that one that cannot be read is an error."""
    trust_code: bool

    def training(self, contract: Preprocessing, count: int) -> list[Tensor]:
        """Return training images spread over the data set, float32 [1, 3, h, w], prepared by the contract.

        Raises:
            PrunekitError: the data set cannot be read.
        """
        dataset = self._opened("train")
        return list(_prepared(dataset, contract, min(count, len(dataset))))

    def covering(self, contract: Preprocessing, count: int) -> list[Tensor]:
        """Return training images that together show all classes, prepared as `training`.

        Raises:
            PrunekitError: the data set cannot be read.
        """
        from prunekit.data.transforms import EvalTransform
        from prunekit_export.quantising import covering

        dataset, prepare = self._opened("train"), EvalTransform(contract)
        places = covering(dataset, len(dataset.classes.names), count)
        return [prepare(dataset[place].image_3HW)[None] for place in places]

    def pictures(self, tell: Callable[[str], None]) -> list[ByteArray]:
        """Return validation images, uint8 (H, W, 3), to compare labels on; none where the data set is not here.

        Raises:
            PrunekitError: `root` names the folder of the data set, and it cannot be read there.
        """
        try:
            dataset = self._opened("val")
            return [_picture(dataset[place]) for place in spread(len(dataset), PARITY_PICTURES)]
        except PrunekitError as error:
            if self.named:
                raise
            tell(f"comparing on random images only, as the run's validation images cannot be read: {error}")
            return []

    def judged(self, count: int = JUDGED_PICTURES) -> list[LabelledPicture]:
        """Return validation images, uint8 (H, W, 3), with the class of each pixel, uint8 (H, W).

        Raises:
            PrunekitError: the data set cannot be read.
        """
        import numpy as np

        from prunekit_export.quantising import IGNORED

        dataset = self._opened("val")
        found: list[LabelledPicture] = []
        for place in spread(len(dataset), count):
            sample = dataset[place]
            labels_HW = sample.labels_HW.numpy()
            known_HW = np.where(labels_HW == dataset.classes.ignore_index, IGNORED, labels_HW)
            found.append((_picture(sample), known_HW.astype(np.uint8)))
        return found

    def _opened(self, split: Split) -> SegmentationDataset:
        from prunekit.data.registry import open_dataset

        return open_dataset(self.data(), split, trust_code=self.trust_code)


def _prepared(dataset: SegmentationDataset, contract: Preprocessing, count: int) -> Iterator[Tensor]:
    """Yield `count` images spread over a data set, float32 [1, 3, h, w], prepared by the contract."""
    from prunekit.data.transforms import EvalTransform

    prepare = EvalTransform(contract)
    for place in spread(len(dataset), count):
        yield prepare(dataset[place].image_3HW)[None]


def of_folder(
    folder: Path, contract: Preprocessing, calibrating: int, judging: int
) -> tuple[list[Tensor], list[LabelledPicture]]:
    """Return every other picture of a folder, prepared, to calibrate with, and the rest to judge by, no label known.

    Args:
        folder: searched with all folders below it.
        contract: prepares pictures.
        calibrating: how many at most.
        judging: how many at most.

    Raises:
        PrunekitError: there are fewer than two, or one cannot be read.
    """
    import numpy as np
    import torch

    from prunekit.data.images import IMAGE_SUFFIXES, read_image
    from prunekit_export.quantising import IGNORED
    from prunekit_runtime.predicting.sources import find_sources

    found = [source.path for source in find_sources([folder], IMAGE_SUFFIXES).sources]
    if len(found) < 2:
        raise ExportUsageError(
            f"{folder} holds one picture: some are for calibration, others to judge by. Give more of them."
        )

    def pictures(paths: list[Path], count: int) -> Iterator[ByteArray]:
        for place in spread(len(paths), count):
            yield read_image(paths[place], turn=True).permute(1, 2, 0).contiguous().numpy()

    prepared = [torch.from_numpy(contract.prepare(picture)) for picture in pictures(found[::2], calibrating)]
    judged = [(picture, np.full(picture.shape[:2], IGNORED, np.uint8)) for picture in pictures(found[1::2], judging)]
    return prepared, judged


def spread(available: int, count: int) -> list[int]:
    """Return `count` places, or all, spread evenly over those that there are."""
    taken = min(count, available)
    return [index * available // taken for index in range(taken)]


def _picture(sample: Sample) -> ByteArray:
    return sample.image_3HW.permute(1, 2, 0).contiguous().numpy()
