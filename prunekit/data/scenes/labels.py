"""The classes of the generated scenes."""

from enum import IntEnum
from typing import Final

from prunekit.data.dataset import IGNORE_INDEX, ClassMap


class Label(IntEnum):
    """Label of each class, and of the pixels that do not count."""

    SKY = 0
    BUILDING = 1
    ROAD = 2
    PAVEMENT = 3
    MARKING = 4
    TREE = 5
    CAR = 6
    POLE = 7
    SIGN = 8
    PEDESTRIAN = 9
    IGNORE = IGNORE_INDEX


CLASSES: Final = ClassMap(
    names=(
        "sky",
        "building",
        "road",
        "pavement",
        "lane marking",
        "tree",
        "car",
        "pole",
        "sign",
        "pedestrian",
    ),
    palette=(
        (120, 170, 220),
        (130, 80, 60),
        (100, 60, 120),
        (225, 90, 200),
        (240, 240, 240),
        (70, 140, 40),
        (30, 40, 170),
        (160, 160, 150),
        (235, 200, 20),
        (220, 30, 50),
    ),
)
