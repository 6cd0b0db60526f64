"""Where the files of a data set lie and how its masks are read. A data set with files gets an entry in `SOURCES`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from prunekit.data import camvid, folder
from prunekit.data.checking.files import SplitFiles, match
from prunekit.data.dataset import ClassMap, Split
from prunekit.data.files.partners import Patterns
from prunekit.data.files.pattern import Place
from prunekit.data.images import IMAGE_SUFFIXES, MASK_FORMATS, MASK_SUFFIXES, load
from prunekit.data.labels.class_list import read_class_list
from prunekit.data.labels.masks import Value, read_mask, stored_numbers, unknown_values
from prunekit.recipe import DataConfig

SPLITS: Final[tuple[Split, ...]] = get_args(Split)
_DRAWN: Final[tuple[Split, ...]] = ("train", "val")


@dataclass(frozen=True)
class Source:
    """The splits of a data set as files."""

    classes: ClassMap
    splits: tuple[SplitFiles, ...]
    read: Callable[[Path], npt.NDArray[np.uint8]]
    """Reads a mask as labels [H, W]; a DataError where it cannot be."""
    unknown: Callable[[Path], dict[Value, int]]
    """Returns what in a mask is no class, with pixels; a DataError where the mask cannot be read for another reason."""
    white_level: int = 0
    """The number that is white in images of 16 bits a channel, as `read_image` takes it."""


def _folder(config: DataConfig) -> Source:
    root = Path(config.root)
    path = folder.class_list_path(root, config.classes)
    class_list = read_class_list(path, config.mask_values, config.ignore_index)
    return Source(
        class_list.classes,
        folder_files(root, config.images, config.masks),
        functools.partial(read_mask, class_list=class_list),
        functools.partial(unknown_values, class_list=class_list),
        config.white_level,
    )


def folder_files(root: Path, images: str = "", masks: str = "") -> tuple[SplitFiles, ...]:
    """Return the splits of a folder data set; of one without splits, what is not matched is with the first.

    Raises:
        DataError: the folder is laid out in no way that is known, or a pattern is wrong.
    """
    named = folder.patterns_of(root, images, masks)
    if named.images.has_split:
        there = SPLITS if images or masks else folder.own_splits(root)
        return _existing(tuple(_of_split(root, named, split) for split in there))
    whole = _of_split(root, named, "train")
    if len(whole.pairs) < 2:
        return (whole,)
    train, val = (tuple(folder.drawn_split(list(whole.pairs), root, split)) for split in _DRAWN)
    return dataclasses.replace(whole, pairs=train), SplitFiles("val", whole.images, whole.masks, val)


def _of_split(root: Path, named: Patterns, split: Split) -> SplitFiles:
    images, masks = (root, named.images.of_split(split)), (root, named.masks.of_split(split))
    return match(split, images, masks, spare_masks=named.images.has_split and not named.masks.has_split)


def _existing(splits: tuple[SplitFiles, ...]) -> tuple[SplitFiles, ...]:
    """Leave out the test split where nothing of it is there: no data set needs one."""
    return tuple(files for files in splits if files.split != "test" or files.pairs or not files.missing)


def _camvid(config: DataConfig) -> Source:
    places = Place("{name}.*", IMAGE_SUFFIXES), Place("{name}.*", MASK_SUFFIXES)
    splits: list[SplitFiles] = []
    for split in SPLITS:
        images, masks = camvid.folders(Path(config.root), split)
        splits.append(match(split, (images, places[0]), (masks, places[1])))
    return Source(camvid.CLASSES, _existing(tuple(splits)), camvid.read_labels, _not_in_camvid)


def _not_in_camvid(path: Path) -> dict[Value, int]:
    numbers = stored_numbers(load(path, MASK_FORMATS), path)
    return {number: pixels for number, pixels in numbers.items() if isinstance(number, int) and number > camvid.VOID}


SOURCES: Final[Mapping[str, Callable[[DataConfig], Source]]] = {"folder": _folder, "camvid": _camvid}
