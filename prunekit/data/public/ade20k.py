"""ADE20K as the scene parsing benchmark has it: 150 classes of scenes of all kinds; 20210 and 2000 images.

Masks hold 1 to 150 for the classes (owner's `objectInfo150.txt`, whose first name of each is taken) and 0 for anything
else, which does not count. The colours are those of the owner's `color150`.
"""

from pathlib import Path
from typing import Final

from prunekit.data.dataset import Split
from prunekit.data.pairs import Pair
from prunekit.data.public.dataset import Layout
from prunekit.data.public.files import matched

_FOLDERS: Final[dict[Split, str]] = {"train": "training", "val": "validation"}


def _pairs(place: Path, split: Split) -> list[Pair]:
    folder = _FOLDERS[split]
    return matched(place / "images" / folder, ".jpg", place / "annotations" / folder, ".png")


ADE20K: Final = Layout(
    name="ade20k",
    title="ADE20K (scene parsing, ADEChallengeData2016)",
    address="http://sceneparsing.csail.mit.edu",
    tree=(
        "images/{training,validation}/ADE_*.jpg          (in ADEChallengeData2016/, or straight in DIR)",
        "annotations/{training,validation}/ADE_*.png",
    ),
    table="ade20k",
    folders=("images", "annotations"),
    inside=("ADEChallengeData2016",),
    pairs=_pairs,
    withheld={"test": "its labels are not public"},
)
