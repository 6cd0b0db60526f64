"""The labels of public data sets, kept as data: one CSV table each, in `tables/`.

A row says what a number in the owner's masks stands for: `number,label,name,red,green,blue`. The label is the class,
and empty where such pixels do not count. Numbers without a row do not occur.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from prunekit.data.dataset import IGNORE_INDEX, ClassMap
from prunekit.data.labels.lookup import Lookup


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The classes of a data set, and the numbers that its masks hold for them."""

    classes: ClassMap
    lookup: Lookup


@cache
def label_table(name: str) -> LabelTable:
    """Return the labels of the data set whose table has this name."""
    text = resources.files(__package__ or __name__).joinpath("tables", f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    counted = sorted((row for row in rows if row["label"]), key=lambda row: int(row["label"]))
    palette = tuple((int(row["red"]), int(row["green"]), int(row["blue"])) for row in counted)
    label_of = {int(row["number"]): int(row["label"] or IGNORE_INDEX) for row in rows}
    return LabelTable(ClassMap(tuple(row["name"] for row in counted), palette), Lookup(label_of))
