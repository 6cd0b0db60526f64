"""Images and masks on disk, matched by stem; shared by the data sets that are folders."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from prunekit.data.images import IMAGE_SUFFIXES
from prunekit.errors import DataError

_Found = TypeVar("_Found")
_LISTED: Final = 5  # names an error shows before it counts the rest


@dataclass(frozen=True)
class Pair:
    """An image file and its mask."""

    image: Path
    mask: Path

    @property
    def name(self) -> str:
        """The stem both share."""
        return self.image.stem


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Match the images in one folder with the PNG masks in another, sorted by name.

    Raises:
        DataError: a folder is missing or empty, a file has no partner, or two images share a stem.
    """
    image_of, mask_of = _by_stem(images, IMAGE_SUFFIXES), _by_stem(masks, (".png",))
    _refuse_single(image_of.keys() - mask_of.keys(), "image", images, "mask", masks)
    _refuse_single(mask_of.keys() - image_of.keys(), "mask", masks, "image", images)
    if not image_of:
        raise DataError(f"{images} holds no {', '.join(IMAGE_SUFFIXES)} files. Put the images there, masks in {masks}.")
    return [Pair(image_of[stem], mask_of[stem]) for stem in sorted(image_of)]


def check_all(pairs: list[Pair], check: Callable[[Pair], _Found]) -> Iterator[_Found]:
    """Run `check` on every pair and yield what it returns; threads, since decoding PNGs releases the GIL."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(check, pairs)


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"Folder {folder} does not exist. Create it, or correct data.root (--root).")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue  # .DS_Store and editors' backups
        if path.is_dir():
            raise DataError(f"{path} is a folder among the files of {folder}; it is not searched. Move its files up.")
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DataError(f"{path} and {found[path.stem]} share the stem {path.stem!r}. Rename or remove one.")
        found[path.stem] = path
    return found


def _refuse_single(stems: Iterable[str], what: str, folder: Path, partner: str, other: Path) -> None:
    single = sorted(stems)
    if not single:
        return
    rest = f" and {len(single) - _LISTED} more" if len(single) > _LISTED else ""
    raise DataError(
        f"{len(single)} {what}(s) in {folder} have no {partner} of the same stem in {other}: "
        f"{', '.join(single[:_LISTED])}{rest}. Add the {partner}s or remove the {what}s."
    )
