"""Cityscapes, fine annotations: 19 classes of street scenes in 50 cities, 2048x1024 pixels; 2975 and 500 images.

Masks are `labelIds`, which the owner publishes: 34 numbers, of which 19 count (owner's `labels.py`, its train ids).
Train ids themselves (`labelTrainIds`) are made by a script that everybody may change, so they are never read.
A licence plate (-1) is never drawn by the owner's script, so 255 is no number of such a mask.
"""

from pathlib import Path
from typing import Final

from prunekit.data.dataset import Split
from prunekit.data.pairs import Pair
from prunekit.data.public.dataset import Layout
from prunekit.data.public.files import folders, matched
from prunekit.errors import DataError

_IMAGE: Final = "_leftImg8bit.png"
_MASK: Final = "_gtFine_labelIds.png"


def _pairs(place: Path, split: Split) -> list[Pair]:
    images, masks = place / "leftImg8bit" / split, place / "gtFine" / split
    cities, labelled = folders(images), folders(masks)
    if not cities:
        raise DataError(f"{images.absolute()} holds no folder of a city.")
    for single, where, lacking in ((cities - labelled, images, masks), (labelled - cities, masks, images)):
        if single:
            raise DataError(f"{where.absolute()} holds the city {min(single)!r}, {lacking} does not.")
    return [pair for city in sorted(cities) for pair in matched(images / city, _IMAGE, masks / city, _MASK)]


CITYSCAPES: Final = Layout(
    name="cityscapes",
    title="Cityscapes",
    address="https://www.cityscapes-dataset.com",
    tree=(
        "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png",
        "gtFine/{train,val}/CITY/*_gtFine_labelIds.png   (other files beside them are not read)",
    ),
    table="cityscapes",
    folders=("leftImg8bit", "gtFine"),
    inside=("cityscapes",),
    pairs=_pairs,
    withheld={"test": "its labels are not public, and the files in gtFine/test mark only what is not judged"},
)
