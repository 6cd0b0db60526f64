"""A data set of your own: a folder of images and masks, matched by stem, and a class list.

    ROOT/classes.toml or classes.txt          (or the file named by data.classes)

    ROOT/train/images/a.jpg                   with splits of your own: train, val, and test if you have one
    ROOT/train/masks/a.png
    ROOT/val/images/b.jpg
    ROOT/val/masks/b.png

    ROOT/images/a.jpg                         or without: every fifth image, by a hash of its stem, is validation
    ROOT/masks/a.png                          (neighbouring video frames then leak: use train/ and val/ for those)

Masks are PNGs: one class number a pixel (grey or palette), or the class list's colours (RGB). `class_list` tells
how the class list is written. Shapes: H height, W width.
"""

import hashlib
import logging
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from prunekit.data.class_list import ClassList, read_class_list
from prunekit.data.dataset import IGNORE_INDEX, Sample, Split, check_position
from prunekit.data.images import IMAGE_FORMATS, MASK_FORMATS, check_sizes, image_size, label_array, load, read_image
from prunekit.data.pairs import Pair, check_all, find_pairs
from prunekit.errors import DataError

_VALIDATION_SHARE: Final = 5  # one in five
_Labels = npt.NDArray[np.uint8]

logger = logging.getLogger(__name__)


class FolderDataset:
    """One split of a folder of images and masks, checked file by file when it is opened.

    Raises:
        DataError: the folder or the class list is not as the module describes, a file lacks its partner or is
            damaged, sizes differ, or a mask holds a number or colour that is no class.
    """

    def __init__(self, root: str | Path, split: Split, *, class_list: str | Path = "") -> None:
        if not str(root):
            raise DataError("The folder data set needs its folder. Give it: --root DIR, or data.root in the recipe.")
        self._list = read_class_list(_class_list_path(Path(root), class_list))
        self.classes = self._list.classes
        self._pairs = _pairs(Path(root), split)
        check_all(self._pairs, self._check)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[check_position(index, len(self))]
        return Sample(read_image(pair.image), torch.from_numpy(read_mask(pair.mask, self._list)), pair.name)

    def _check(self, pair: Pair) -> None:
        labels_HW = read_mask(pair.mask, self._list)
        height, width = labels_HW.shape
        check_sizes(pair.image, image_size(pair.image, IMAGE_FORMATS), pair.mask, (height, width))


def read_mask(path: Path, class_list: ClassList) -> _Labels:
    """Read a mask as labels, uint8 [H, W].

    Raises:
        DataError: the file is no PNG mask, ambiguous, or holds a number or colour that is no class.
    """
    mask = load(path, MASK_FORMATS)
    if _kind(mask, path, class_list) == "colour":
        return _from_colours(mask, path, class_list)
    return _from_numbers(label_array(mask, path), path, class_list)


def _class_list_path(root: Path, named: str | Path) -> Path:
    if str(named):
        return Path(named)
    found = [path for path in (root / "classes.toml", root / "classes.txt") if path.is_file()]
    if len(found) != 1:
        state = "no classes.toml or classes.txt" if not found else "both classes.toml and classes.txt"
        raise DataError(f"{root} holds {state}. Name the class list as data.classes, or keep one of the two there.")
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


def _drawn_split(pairs: list[Pair], root: Path, split: Split) -> list[Pair]:
    """Draw the validation images by hash: adding images moves few of the others from one split to the other."""
    if split == "test" or len(pairs) < 2:
        reason = "one image only" if split != "test" else "no splits, so no test images"
        raise DataError(f"{root} holds {reason}. Add images, or lay them out as train/, val/ and test/.")
    shuffled = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).digest())
    validation = shuffled[: max(1, len(pairs) // _VALIDATION_SHARE)]
    chosen = validation if split == "val" else shuffled[len(validation) :]
    logger.info("%s has no splits: %d of %d images taken for %s", root, len(chosen), len(pairs), split)
    return sorted(chosen, key=lambda pair: pair.name)


def _kind(mask: Image.Image, path: Path, class_list: ClassList) -> Literal["index", "colour"]:
    if class_list.masks != "auto":
        return class_list.masks
    if mask.mode != "P":
        return "colour" if mask.mode in ("RGB", "RGBA") else "index"
    if class_list.coloured and _palette_contradicts(mask, class_list):
        raise DataError(
            f"Mask {path} is a palette PNG that shows the class list's colours under other numbers than its own. "
            'Say which is meant: masks = "index" or masks = "colour" in the class list (as TOML).'
        )
    return "index"


def _palette_contradicts(mask: Image.Image, class_list: ClassList) -> bool:
    """Tell whether the mask shows class colours only, and some of them under another class's number."""
    flat = mask.getpalette("RGB") or []
    numbers: list[int] = np.unique(np.asarray(mask)).tolist()
    shown = {number: tuple(flat[3 * number : 3 * number + 3]) for number in numbers}
    meant = dict(enumerate(class_list.classes.palette))
    if class_list.ignore_colour is not None:
        meant[class_list.ignore_index] = class_list.ignore_colour
    known = set(meant.values())
    return all(colour in known for colour in shown.values()) and any(
        meant.get(number) != colour for number, colour in shown.items()
    )


def _from_numbers(stored_HW: npt.NDArray[np.int64], path: Path, class_list: ClassList) -> _Labels:
    ignored_HW = stored_HW == class_list.ignore_index
    wrong = stored_HW[~ignored_HW & ((stored_HW < 0) | (stored_HW >= len(class_list.classes)))]
    if wrong.size:
        raise DataError(
            f"Mask {path} holds {wrong.max()} at {wrong.size} pixels; the class list has 0 to "
            f"{len(class_list.classes) - 1}, and {class_list.ignore_index} for pixels that do not count. "
            "Correct the mask, or add the class or ignore_index to the class list."
        )
    return np.where(ignored_HW, IGNORE_INDEX, stored_HW).astype(np.uint8)


def _from_colours(mask: Image.Image, path: Path, class_list: ClassList) -> _Labels:
    if not class_list.coloured:
        raise DataError(f"Mask {path} shows colours, the class list names none. Give each class its colour there.")
    if mask.mode not in ("RGB", "RGBA", "P", "L", "1"):
        raise DataError(f"Mask {path} has pixels of kind {mask.mode}, which show no colours. Save it as RGB PNG.")
    if mask.mode == "RGBA" and mask.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"Mask {path} is transparent in places. Save it as RGB without transparency.")
    packed_HW = _packed(np.array(mask.convert("RGB")))
    known = np.array(class_list.classes.palette, dtype=np.uint8).reshape(-1, 3)
    labels = list(range(len(class_list.classes)))
    if class_list.ignore_colour is not None:
        known = np.concatenate([known, np.array([class_list.ignore_colour], dtype=np.uint8)])
        labels.append(IGNORE_INDEX)
    colours_C = _packed(known)
    order_C = np.argsort(colours_C)
    place_HW = np.searchsorted(colours_C[order_C], packed_HW).clip(max=len(labels) - 1)
    unknown_HW = colours_C[order_C][place_HW] != packed_HW
    if unknown_HW.any():
        raise DataError(_unknown_colour(packed_HW[unknown_HW], path))
    return np.array(labels, dtype=np.uint8)[order_C][place_HW]


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    wide = colours.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _unknown_colour(packed_N: npt.NDArray[np.int64], path: Path) -> str:
    values, counts = np.unique(packed_N, return_counts=True)
    value = int(values[counts.argmax()])
    return (
        f"Mask {path} shows the colour {[value >> 16, value >> 8 & 255, value & 255]} at {int(counts.max())} pixels, "
        f"which no class has ({len(values)} unknown colours in all). Add it to the class list, or as ignore_colour; "
        "many unknown colours mean that the mask was smoothed or saved lossily."
    )
