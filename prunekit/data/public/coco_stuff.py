"""COCO-Stuff on all of COCO 2017 (164k): 171 classes, 80 of things and 91 of stuff; 118287 and 5000 images.

Masks (`stuffthingmaps`) hold the owner's label less one (owner's README and `labels.txt`): 0 to 181, of which 11 were
removed from COCO and do not occur, and 255 for what is not labelled. Classes are numbered on without the 11. The owner
names no colours; those of the table follow Pascal VOC's rule, by the owner's label.
"""

from pathlib import Path
from typing import Final

from prunekit.data.dataset import Split
from prunekit.data.pairs import Pair
from prunekit.data.public.dataset import Layout
from prunekit.data.public.files import matched
from prunekit.errors import DataError

_MASK_FOLDERS: Final = ("annotations", "stuffthingmaps")


def _pairs(place: Path, split: Split) -> list[Pair]:
    folder = f"{split}2017"
    there = [name for name in _MASK_FOLDERS if (place / name / folder).is_dir()]
    if len(there) != 1:
        choices = [f"{name}/{folder}" for name in _MASK_FOLDERS]
        state = f"both {' and '.join(choices)}" if there else f"neither {' nor '.join(choices)}"
        raise DataError(f"{place.absolute()} holds {state}.")
    return matched(place / "images" / folder, ".jpg", place / there[0] / folder, ".png", apart="_labelTrainIds.png")


COCO_STUFF: Final = Layout(
    name="coco-stuff",
    title="COCO-Stuff (164k)",
    address="https://github.com/nightrome/cocostuff",
    tree=(
        "images/{train2017,val2017}/*.jpg",
        "annotations/{train2017,val2017}/*.png   (stuffthingmaps_trainval2017.zip; or in stuffthingmaps/)",
    ),
    table="coco_stuff",
    folders=("images",),
    inside=("dataset",),
    pairs=_pairs,
    withheld={"test": "its labels are not public"},
)
