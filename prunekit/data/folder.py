"""A data set of your own: a folder of images and masks, matched by stem, and a class list.

    ROOT/classes.toml, .txt or .csv           (or the file named by data.classes)

    ROOT/train/images/a.jpg                   with splits of your own: train, val, and test if you have one
    ROOT/train/masks/a.png
    ROOT/val/images/b.jpg
    ROOT/val/masks/b.png

    ROOT/images/a.jpg                         or without: every fifth image, by a hash of its stem, is validation
    ROOT/masks/a.png                          (neighbouring video frames then leak: use train/ and val/ for those)

Masks are PNGs: one number a pixel (grey or palette), or the class list's colours (RGB). A number is the class at that
place of the list, unless `mask_values` names the number of each. `class_list` tells how the class list is written.
Shapes: H height, W width.
"""

import hashlib
import logging
import os
import unicodedata
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from prunekit.data.class_list import read_class_list
from prunekit.data.dataset import Sample, Split, check_position
from prunekit.data.images import IMAGE_FORMATS, check_sizes, image_size, read_image
from prunekit.data.labels.counts import pixel_counts, summed
from prunekit.data.labels.masks import read_mask as read_mask
from prunekit.data.pairs import Pair, check_all, check_root, find_pairs
from prunekit.errors import DataError

_CLASS_LISTS: Final = ("classes.toml", "classes.txt", "classes.csv")
_VALIDATION_SHARE: Final = 5  # one in five

logger = logging.getLogger(__name__)


class FolderDataset:
    """One split of a folder of images and masks, checked file by file when it is opened.

    Raises:
        DataError: the folder or the class list is not as the module describes, a file lacks its partner or is
            damaged, sizes differ, or a mask holds a number or colour that is no class.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split,
        *,
        class_list: str | Path = "",
        mask_values: tuple[int, ...] = (),
        ignore_index: tuple[int, ...] = (),
    ) -> None:
        check_root(root, "folder")
        self._list = read_class_list(_class_list_path(Path(root), class_list), mask_values, ignore_index)
        self.classes = self._list.classes
        self._pairs = _pairs(Path(root), split)
        self.label_counts = summed(check_all(self._pairs, self._check), len(self), self.classes)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[check_position(index, len(self))]
        return Sample(read_image(pair.image), torch.from_numpy(read_mask(pair.mask, self._list)), pair.name)

    def _check(self, pair: Pair) -> npt.NDArray[np.int64]:
        labels_HW = read_mask(pair.mask, self._list)
        height, width = labels_HW.shape
        check_sizes(pair.image, image_size(pair.image, IMAGE_FORMATS), pair.mask, (height, width))
        return pixel_counts(labels_HW)


def _class_list_path(root: Path, named: str | Path) -> Path:
    if str(named):
        return Path(named)
    found = [root / name for name in _CLASS_LISTS if (root / name).is_file()]
    if len(found) != 1:
        state = f"both {' and '.join(path.name for path in found)}" if found else f"no {' or '.join(_CLASS_LISTS)}"
        raise DataError(
            f"{root} holds {state}. Name the class list as data.classes (--set data.classes=FILE), or keep one there."
        )
    return found[0]


def _pairs(root: Path, split: Split) -> list[Pair]:
    own_splits = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    flat = (root / "images").is_dir()
    if bool(own_splits) == flat:
        state = f"both images/ and {', '.join(own_splits)}/" if flat else "neither images/ nor train/ and val/"
        raise DataError(
            f"{root} holds {state}. Lay it out as images/ and masks/, or as train/images, train/masks, "
            "val/images and val/masks."
        )
    if flat:
        return _drawn_split(find_pairs(root / "images", root / "masks"), root, split)
    if split not in own_splits:
        raise DataError(f"{root} holds {', '.join(own_splits)}, no {split}. Add {split}/images and {split}/masks.")
    return find_pairs(root / split / "images", root / split / "masks")


def _draw(pair: Pair) -> bytes:
    """Return a hash of the stem, the same in either Unicode form and for names that are no UTF-8."""
    stem = unicodedata.normalize("NFC", pair.image.stem)
    return hashlib.sha256(os.fsencode(stem)).digest()


def _drawn_split(pairs: list[Pair], root: Path, split: Split) -> list[Pair]:
    """Draw the validation images by hash: adding images moves few of the others from one split to the other."""
    if split == "test" or len(pairs) < 2:
        reason = "one image only" if split != "test" else "no splits, so no test images"
        raise DataError(f"{root} holds {reason}. Add images, or lay them out as train/, val/ and test/.")
    shuffled = sorted(pairs, key=_draw)
    validation = shuffled[: max(1, len(pairs) // _VALIDATION_SHARE)]
    chosen = validation if split == "val" else shuffled[len(validation) :]
    logger.info("%s has no splits: %d of %d images taken for %s", root, len(chosen), len(pairs), split)
    return sorted(chosen, key=lambda pair: pair.name)
