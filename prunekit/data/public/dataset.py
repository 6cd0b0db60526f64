"""What the public data sets have in common: where a set lies under its root, which files are read, and when.

Opening one lists all its files and matches each image with its mask. Masks are decoded and checked then as far as
`CHECKED` goes, since all masks of a large set take minutes; the rest is checked in the same way when it is read.
Shapes: H height, W width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from prunekit.data.dataset import Sample, Split, check_position
from prunekit.data.images import IMAGE_FORMATS, check_sizes, image_size, read_image
from prunekit.data.labels.counts import pixel_counts, summed
from prunekit.data.pairs import Pair, check_all, check_root
from prunekit.data.public.tables import label_table
from prunekit.errors import DataError, DataUsageError

CHECKED: Final = 200
"""Masks of a split that are decoded, checked and counted when it is opened; spread over it, the same ones each time."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the owner of a data set names its folders and files."""

    name: str
    """As the data set is asked for."""
    title: str
    address: str
    """Where the owner publishes it."""
    tree: tuple[str, ...]
    """A line for each kind of file, to be shown."""
    table: str
    """Name of its label table."""
    folders: tuple[str, ...]
    """Folders by which the set is known."""
    inside: tuple[str, ...]
    """Folders under the root in which the set may lie, as its archives unpack."""
    pairs: Callable[[Path, Split], list[Pair]]
    """Finds the files of a split in the set's folder."""
    withheld: Mapping[Split, str] = field(default_factory=dict[Split, str])
    """Splits whose labels are not public, with the reason."""

    @property
    def remedy(self) -> str:
        """What to do where the set is not as it should be: the owner's address, and the expected files."""
        lines = "".join(f"\n    {line}" for line in self.tree)
        return (
            f"{self.title} is published at {self.address}; prunekit downloads nothing. "
            f"Unpack its archives and name their folder, --root DIR, with{lines}"
        )


class PublicDataset:
    """One split of a public data set, its files matched and a part of its masks checked when it is opened.

    EXIF data is not looked at: the owners' masks belong to the images' pixels as they are stored.

    Raises:
        DataError: the set is not there or not whole, a split's labels are not public, a file is damaged, sizes differ,
            or a mask holds a number that the owner's table does not have.
    """

    def __init__(self, layout: Layout, root: str | Path, split: Split, near: str = "") -> None:
        if split in layout.withheld:
            raise DataUsageError(
                f"{layout.title} has no {split} split here: {layout.withheld[split]}. Use --split val."
            )
        self._layout = layout
        self._table = label_table(layout.table)
        self.classes = self._table.classes
        try:
            check_root(root, layout.name, near)
            self._pairs = layout.pairs(_place(layout, Path(root)), split)
        except DataError as error:
            raise DataUsageError(f"{error}\n{layout.remedy}") from None
        self.label_counts = summed(check_all(spread(self._pairs, CHECKED), self._check), len(self), self.classes)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[check_position(index, len(self))]
        return Sample(read_image(pair.image, as_stored=True), torch.from_numpy(self._labels(pair)), pair.name)

    def _labels(self, pair: Pair) -> npt.NDArray[np.uint8]:
        remedy = f"Unpack the owner's masks anew ({self._layout.address}), or open masks of your own as --data folder."
        return self._table.lookup.read(pair.mask, remedy)

    def _check(self, pair: Pair) -> npt.NDArray[np.int64]:
        labels_HW = self._labels(pair)
        height, width = labels_HW.shape
        check_sizes(pair.image, image_size(pair.image, IMAGE_FORMATS, as_stored=True), pair.mask, (height, width))
        return pixel_counts(labels_HW)


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Return all pairs, or `count` of them at equal distances."""
    taken = min(count, len(pairs))
    return [pairs[place * len(pairs) // taken] for place in range(taken)]


def _place(layout: Layout, root: Path) -> Path:
    """Return the set's own folder: the root, or one in it."""
    found = [place for place in (root, *(root / name for name in layout.inside)) if _is_whole(layout, place)]
    if len(found) > 1:
        raise DataUsageError(
            f"{layout.title} lies in {found[0].absolute()} and in {found[1].absolute()}. Name one of them."
        )
    if found:
        return found[0]
    lacking = [f"{name}/" for name in layout.folders if not (root / name).is_dir()]
    above = root.absolute().parent
    hint = f" (it lies one folder up, so: --root {above})" if _is_whole(layout, above) else ""
    raise DataError(f"{root.absolute()} holds no {' and no '.join(lacking)}{hint}.")


def _is_whole(layout: Layout, place: Path) -> bool:
    return all((place / name).is_dir() for name in layout.folders)
