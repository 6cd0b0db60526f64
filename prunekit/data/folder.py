"""A data set of your own: a folder of images and masks, matched by name, and a class list.

    ROOT/classes.toml, .txt or .csv           (or the file named by data.classes)

    ROOT/train/images/a.jpg                   with splits of your own: train, val, and test if you have one
    ROOT/train/masks/a.png
    ROOT/val/images/b.jpg
    ROOT/val/masks/b.png

    ROOT/images/a.jpg                         or without: every fifth image, by a hash of its stem, is validation
    ROOT/masks/a.png                          (neighbouring video frames then leak: use train/ and val/ for those)

    anything else                             by patterns (`files.pattern`): data.images = "img/{split}/{name}.jpg" and
                                              data.masks = "annotations/{split}/{name}_mask.png"

Folders in these are searched: train/images/city/a.jpg belongs to train/masks/city/a.png. Masks are PNGs: one number a
pixel (grey or palette), or the class list's colours (RGB). A number is the class at that place of the list, unless the
list or `mask_values` says otherwise. `class_list` tells how the class list is written.
Shapes: H height, W width.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
import torch

from prunekit.data.dataset import Sample, Split, check_position
from prunekit.data.files.names import listed
from prunekit.data.files.partners import Patterns
from prunekit.data.images import IMAGE_FORMATS, check_sizes, image_size, read_image
from prunekit.data.labels.class_list import CLASS_LISTS, read_class_list
from prunekit.data.labels.counts import pixel_counts, summed
from prunekit.data.labels.masks import read_mask as read_mask
from prunekit.data.pairs import Pair, check_all, check_root, match_pairs, patterns
from prunekit.errors import DataError, DataUsageError

_VALIDATION_SHARE: Final = 5  # one in five
_SPLIT: Final = ("{split}/images/{name}.*", "{split}/masks/{name}.*")
_FLAT: Final = ("images/{name}.*", "masks/{name}.*")
_CALLED: Final = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}

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
        images: str = "",
        masks: str = "",
        white_level: int = 0,
    ) -> None:
        check_root(root, "folder")
        self._list = read_class_list(class_list_path(Path(root), class_list), mask_values, ignore_index)
        self.classes = self._list.classes
        self._white_level = white_level
        named = patterns_of(Path(root), images, masks)
        if not (images or masks):
            _refuse_missing_split(Path(root), split)
        self._pairs = _pairs(Path(root), named, split)
        self.label_counts = summed(check_all(self._pairs, self._check), len(self), self.classes)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[check_position(index, len(self))]
        image_3HW = read_image(pair.image, white_level=self._white_level)
        return Sample(image_3HW, torch.from_numpy(read_mask(pair.mask, self._list)), pair.name)

    def _check(self, pair: Pair) -> npt.NDArray[np.int64]:
        labels_HW = read_mask(pair.mask, self._list)
        height, width = labels_HW.shape
        check_sizes(pair.image, image_size(pair.image, IMAGE_FORMATS), pair.mask, (height, width))
        return pixel_counts(labels_HW)


def class_list_path(root: Path, named: str | Path) -> Path:
    """Return the class list that is named, or the one that lies in the folder.

    Raises:
        DataUsageError: none is named, and the folder holds none, or several.
    """
    if str(named):
        return Path(named)
    found = [root / name for name in CLASS_LISTS if (root / name).is_file()]
    if len(found) != 1:
        state = f"both {' and '.join(path.name for path in found)}" if found else f"no {' or '.join(CLASS_LISTS)}"
        raise DataUsageError(
            f"{root} holds {state}. Name the class list: --classes FILE, or data.classes in a recipe, "
            "or keep one there."
        )
    return found[0]


def own_splits(root: Path) -> tuple[Split, ...]:
    """Return the splits that a folder is laid out in; none where images/ and masks/ lie in it.

    Raises:
        DataError: it is laid out in both ways, or in neither.
    """
    found = tuple(name for name in get_args(Split) if (root / name).is_dir())
    flat = (root / "images").is_dir()
    if bool(found) == flat:
        state = f"both images/ and {', '.join(found)}/" if flat else "neither images/ nor train/ and val/"
        raise DataUsageError(
            f"{root} holds {state}{_there(root)}. Lay it out as images/ and masks/, or as train/images, train/masks, "
            "val/images and val/masks; or say where they lie: --images 'images/{split}/{name}' "
            "--masks 'masks/{split}/{name}'"
        )
    return found


def patterns_of(root: Path, images: str, masks: str) -> Patterns:
    """Return the patterns that were given, or those of the layout that is there.

    Raises:
        DataError: they are wrong, or the layout is none that is known.
    """
    if images or masks:
        return patterns(images, masks)
    return patterns(*_SPLIT) if own_splits(root) else patterns(*_FLAT)


def _refuse_missing_split(root: Path, split: Split) -> None:
    splits = own_splits(root)
    if splits and split not in splits:
        raise DataUsageError(
            f"{root} holds {', '.join(splits)}, no {split}{_there(root)}. Add {split}/images and {split}/masks; "
            f"or say how the splits are called: --images '{{split:{_called(root)}}}/images/{{name}}' "
            f"--masks '{{split:{_called(root)}}}/masks/{{name}}'"
        )


def _there(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f" (folders there: {listed(names)})" if names else ""


def _called(root: Path) -> str:
    """Return what the three splits seem to be called in a folder."""
    found = {split: next((name for name in names if (root / name).is_dir()), split) for split, names in _CALLED.items()}
    return "|".join(found.values())


def _pairs(root: Path, named: Patterns, split: Split) -> list[Pair]:
    found = match_pairs(root, named, split)
    return found if named.images.has_split else drawn_split(found, root, split)


def _draw(pair: Pair) -> bytes:
    """Return a hash of the name, the same in either Unicode form and for names that are no UTF-8."""
    return hashlib.sha256(os.fsencode(pair.key)).digest()


def drawn_split(pairs: list[Pair], root: Path, split: Split) -> list[Pair]:
    """Draw the validation images by hash: adding images moves few of the others from one split to the other."""
    if split == "test" or len(pairs) < 2:
        reason = "one image only" if split != "test" else "no splits, so no test images"
        raise DataError(f"{root} holds {reason}. Add images, or lay them out as train/, val/ and test/.")
    shuffled = sorted(pairs, key=_draw)
    validation = shuffled[: max(1, len(pairs) // _VALIDATION_SHARE)]
    chosen = validation if split == "val" else shuffled[len(validation) :]
    logger.info("%s has no splits: %d of %d images taken for %s", root, len(chosen), len(pairs), split)
    return sorted(chosen, key=lambda pair: pair.name)
