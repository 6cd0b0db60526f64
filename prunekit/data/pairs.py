"""Images and masks on disk, matched by name; shared by the data sets that are folders."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from prunekit.data.dataset import Split
from prunekit.data.files.looking import look
from prunekit.data.files.names import shown
from prunekit.data.files.partners import Patterns, refuse_single
from prunekit.data.files.pattern import Pattern, Place
from prunekit.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from prunekit.errors import DataUsageError
from prunekit.progress import counted
from prunekit_runtime.near import near_path

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Pair:
    """An image file and its mask."""

    image: Path
    mask: Path
    key: str = ""
    """What their names share, in one Unicode form; empty where it is the image's stem."""

    @property
    def name(self) -> str:
        """What both share, as text: bytes that are no UTF-8 are written in hexadecimal."""
        return shown(self.key or self.image.stem)


_NAME_IT: Final = "Name where it is: --root DIR, or data.root in the recipe."


def check_root(root: str | Path, name: str, near: str = "", remedy: str = _NAME_IT) -> None:
    """Refuse a data set's folder that is not there.

    Args:
        root: the folder.
        name: the data set's name, for messages.
        near: where else it was looked for: the folder as seen from a run.
        remedy: what to do where it does not exist.

    Raises:
        DataUsageError: no folder was given, it does not exist, or it is a file.
    """
    if not str(root):
        raise DataUsageError(f"The {name} data set needs its folder. Give it: --root DIR, or data.root in the recipe.")
    if Path(root).is_dir():
        return
    if Path(root).exists():
        raise DataUsageError(f"{Path(root)} is a file, and the data set's folder is needed.{_folder_of(Path(root))}")
    also = f", and {near}, as seen from the run's folder, does not either" if near else ""
    raise DataUsageError(
        f"The data set's folder {Path(root).absolute()} does not exist{also}.{near_path(Path(root))} {remedy}"
    )


def _folder_of(file: Path) -> str:
    return f" Did you mean {file.parent}?" if file.parent != Path() else " Name the folder that holds it."


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Match the images in one folder with the PNG masks in another, sorted by name; folders in them are searched.

    Names match whatever Unicode form they have: a file system may store "é" as one character or as two.

    Raises:
        DataError: a folder is missing or empty, a file has no partner, or two images share a name.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataUsageError(
                f"Folder {folder.absolute()} does not exist. Create it, or correct data.root (--root)."
            )
    found = look(images, Place("{name}.*", IMAGE_SUFFIXES)), look(masks, Place("{name}.*", MASK_SUFFIXES))
    refuse_single(*found, None)
    return [Pair(path, found[1].files[key], key) for key, path in sorted(found[0].files.items())]


def patterns(images: str, masks: str) -> Patterns:
    """Read the patterns of images and masks, as `files.pattern` describes them.

    Raises:
        DataError: one is wrong, both are the same, or {split} stands in that of the masks alone.
    """
    found = Patterns(Pattern(images, "image", IMAGE_SUFFIXES), Pattern(masks, "mask", MASK_SUFFIXES))
    if found.images.whole == found.masks.whole:
        raise DataUsageError(f"Images and masks have the same pattern, {shown(images)!r}. Say how their names differ.")
    if found.masks.has_split and not found.images.has_split:
        raise DataUsageError(
            f"The pattern of masks has {{split}}, that of images, {shown(images)!r}, not. Add it there too."
        )
    return found


def match_pairs(root: Path, named: Patterns, split: Split) -> list[Pair]:
    """Match the images and masks of a split by patterns, sorted by name; a pattern without {split} gives all.

    Raises:
        DataError: as `find_pairs`.
    """
    images, masks = named.images.of_split(split), named.masks.of_split(split)
    found = look(root, images, masks), look(root, masks, images)
    refuse_single(*found, named, spare_masks=named.images.has_split and not named.masks.has_split)
    return [Pair(path, found[1].files[key], key) for key, path in sorted(found[0].files.items())]


def check_all(pairs: list[Pair], check: Callable[[Pair], _Found]) -> Iterator[_Found]:
    """Run `check` on every pair and yield what it returns; threads, since decoding PNGs releases the GIL."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from counted(pool.map(check, pairs), "Checking images and masks", len(pairs))
