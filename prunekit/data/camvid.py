"""CamVid in the SegNet split: 11 classes of real street scenes, 480x360 pixels.

Layout under the root; a label map has its image's stem:

    train/ trainannot/   val/ valannot/   test/ testannot/      NAME.jpg or NAME.png beside NAME.png

Labels are 8-bit index PNGs: 0 Sky ... 10 Bicyclist, 11 void, which becomes the ignore index.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from prunekit.data.dataset import IGNORE_INDEX, ClassMap, Sample, Split, check_position
from prunekit.data.images import MASK_FORMATS, check_sizes, image_size, label_array, load, read_image
from prunekit.data.labels.counts import pixel_counts, summed
from prunekit.data.pairs import Pair, check_all, check_root, find_pairs
from prunekit.errors import DataError

VOID: Final = 11
CLASSES: Final = ClassMap(
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip


class CamVidDataset:
    """One split of CamVid, checked file by file when it is opened.

    Raises:
        DataError: no root, a missing folder or partner, a damaged file, sizes that differ, or a label above 11.
    """

    def __init__(self, root: str | Path, split: Split) -> None:
        check_root(root, "camvid")
        self.classes = CLASSES
        self._pairs = find_pairs(*folders(Path(root), split))
        self.label_counts = summed(check_all(self._pairs, _check), len(self), self.classes)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[check_position(index, len(self))]
        labels_HW = read_labels(pair.mask)
        return Sample(read_image(pair.image), torch.from_numpy(labels_HW), pair.name)


def _check(pair: Pair) -> npt.NDArray[np.int64]:
    labels_HW = read_labels(pair.mask)
    rows, columns = labels_HW.shape
    check_sizes(pair.image, image_size(pair.image, ("JPEG", "PNG")), pair.mask, (rows, columns))
    return pixel_counts(labels_HW)


def folders(root: Path, split: Split) -> tuple[Path, Path]:
    """Return where a split's images and its label maps lie."""
    return root / split, root / f"{split}annot"


def read_labels(path: Path) -> npt.NDArray[np.uint8]:
    """Read a label map as labels, uint8 [H, W].

    Raises:
        DataError: the file is no index PNG, or holds a number above 11.
    """
    stored_HW = label_array(load(path, MASK_FORMATS), path)
    if stored_HW.max() > VOID:
        raise DataError(
            f"Label map {path} holds {stored_HW.max()}; CamVid's SegNet labels are 0 to {VOID}. "
            "Use the SegNet split's label maps, or open your own as data.name = 'folder'."
        )
    return np.where(stored_HW == VOID, IGNORE_INDEX, stored_HW).astype(np.uint8)
