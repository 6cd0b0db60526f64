"""Pascal VOC 2012, and the same with the training masks of the Semantic Boundaries Dataset (SBD): 21 classes.

Masks are palette PNGs: 0 background, 1 to 20 the classes, 255 void. `voc` trains on the owner's 1464 images. `voc-aug`
is a data set of its own, so that nobody's figures change by a file that lies there: it trains on the list and the masks
that are customary beside the owner's files (10582 images) and is validated on the owner's 1449.
"""

from pathlib import Path
from typing import Final

from prunekit.data.dataset import Split
from prunekit.data.pairs import Pair
from prunekit.data.public.dataset import Layout
from prunekit.data.public.files import listed, read_list
from prunekit.errors import DataError

_IMAGES: Final = "JPEGImages"
_MASKS: Final = "SegmentationClass"
_LISTS: Final = "ImageSets/Segmentation"
_ADDRESS: Final = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"
_INSIDE: Final = ("VOCdevkit/VOC2012", "VOC2012")
_WITHHELD: Final[dict[Split, str]] = {"test": "its labels are not public"}
_AUG_LISTS: Final = ("trainaug.txt", "train_aug.txt")
_AUG_MASKS: Final = "SegmentationClassAug"


def _pairs(place: Path, split: Split) -> list[Pair]:
    return listed(read_list(place / _LISTS / f"{split}.txt"), place / _IMAGES, place / _MASKS)


def _aug_pairs(place: Path, split: Split) -> list[Pair]:
    if split != "train":
        return _pairs(place, split)
    there = [name for name in _AUG_LISTS if (place / _LISTS / name).is_file()]
    if len(there) != 1:
        state = f"both {' and '.join(there)}" if there else f"neither {' nor '.join(_AUG_LISTS)}"
        raise DataError(f"{(place / _LISTS).absolute()} holds {state}.")
    names = read_list(place / _LISTS / there[0])
    shared = set(names) & set(read_list(place / _LISTS / "val.txt"))
    if shared:
        raise DataError(f"{len(shared)} image(s) of {there[0]} are also in val.txt, such as {min(shared)!r}.")
    return listed(names, place / _IMAGES, place / _AUG_MASKS)


VOC: Final = Layout(
    name="voc",
    title="Pascal VOC 2012",
    address=_ADDRESS,
    tree=(
        "JPEGImages/*.jpg          (in VOCdevkit/VOC2012/ or VOC2012/, or straight in DIR)",
        "SegmentationClass/*.png",
        "ImageSets/Segmentation/{train,val}.txt",
    ),
    table="voc",
    folders=(_IMAGES, _MASKS, _LISTS),
    inside=_INSIDE,
    pairs=_pairs,
    withheld=_WITHHELD,
)
VOC_AUG: Final = Layout(
    name="voc-aug",
    title="Pascal VOC 2012 with SBD's training masks",
    address=f"{_ADDRESS} and http://home.bharathh.info/pubs/codes/SBD/download.html",
    tree=(
        "JPEGImages/*.jpg          (in VOCdevkit/VOC2012/ or VOC2012/, or straight in DIR)",
        "SegmentationClass/*.png, for validation",
        "SegmentationClassAug/*.png, SBD's masks as PNGs, for training",
        "ImageSets/Segmentation/val.txt, and trainaug.txt or train_aug.txt, which share no name",
    ),
    table="voc",
    folders=(_IMAGES, _MASKS, _AUG_MASKS, _LISTS),
    inside=_INSIDE,
    pairs=_aug_pairs,
    withheld=_WITHHELD,
)
