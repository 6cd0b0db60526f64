"""Images and masks on disk, matched by stem; shared by the data sets that are folders."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from prunekit.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
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
        """The stem both share, as text: bytes that are no UTF-8 are written in hexadecimal."""
        return _shown(self.image.stem)


def check_root(root: str | Path, name: str, near: str = "") -> None:
    """Refuse a data set's folder that is not there.

    Args:
        root: the folder.
        name: the data set's name, for messages.
        near: where else it was looked for: the folder as seen from a run.

    Raises:
        DataError: no folder was given, it does not exist, or it is a file.
    """
    if not str(root):
        raise DataError(f"The {name} data set needs its folder. Give it: --root DIR, or data.root in the recipe.")
    if Path(root).is_dir():
        return
    state = "is no folder" if Path(root).exists() else "does not exist"
    also = f", and {near}, as seen from the run's folder, does not either" if near else ""
    raise DataError(
        f"The data set's folder {Path(root).absolute()} {state}{also}. "
        "Name where it is: --root DIR, or data.root in the recipe."
    )


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Match the images in one folder with the PNG masks in another, sorted by name.

    Names match whatever Unicode form they have: a file system may store "é" as one character or as two.

    Raises:
        DataError: a folder is missing or empty, a file has no partner, or two images share a stem.
    """
    image_folder, mask_folder = _look(images, IMAGE_SUFFIXES), _look(masks, MASK_SUFFIXES)
    _refuse_single("image", image_folder, "mask", mask_folder)
    _refuse_single("mask", mask_folder, "image", image_folder)
    if not image_folder.found:
        others = "; " + _others(image_folder) if image_folder.others else ""
        raise DataError(
            f"{images} holds no {', '.join(IMAGE_SUFFIXES)} files{others}. Put the images there, masks in {masks}."
        )
    return [Pair(image_folder.found[key], mask_folder.found[key]) for key in sorted(image_folder.found)]


def check_all(pairs: list[Pair], check: Callable[[Pair], _Found]) -> Iterator[_Found]:
    """Run `check` on every pair and yield what it returns; threads, since decoding PNGs releases the GIL."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(check, pairs)


@dataclass(frozen=True)
class _Folder:
    """What lies in a folder, by stems in one Unicode form."""

    path: Path
    suffixes: tuple[str, ...]
    found: dict[str, Path]
    others: dict[str, Path]
    """Files that are not read, because of their suffix."""


def _look(folder: Path, suffixes: tuple[str, ...]) -> _Folder:
    if not folder.is_dir():
        raise DataError(f"Folder {folder.absolute()} does not exist. Create it, or correct data.root (--root).")
    looked = _Folder(folder, suffixes, {}, {})
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue  # .DS_Store and editors' backups
        if path.is_dir():
            raise DataError(f"{path} is a folder among the files of {folder}; it is not searched. Move its files up.")
        key = unicodedata.normalize("NFC", path.stem)
        if path.suffix.lower() not in suffixes:
            looked.others[key] = path
            continue
        if key in looked.found:
            raise DataError(_twins(path, looked.found[key]))
        looked.found[key] = path
    return looked


def _twins(path: Path, other: Path) -> str:
    if path.stem == other.stem:
        return f"{path} and {other} share the stem {path.stem!r}. Rename or remove one."
    return (
        f"{path.parent} holds {path.name!a} and {other.name!a}, which differ in their Unicode form alone and "
        "read the same. Rename or remove one."
    )


def _refuse_single(what: str, folder: _Folder, partner: str, other: _Folder) -> None:
    """Refuse files without a partner, and say what is there in the partner's place."""
    single = sorted(folder.found.keys() - other.found.keys())
    if not single:
        return
    unread = [other.others[key] for key in single if key in other.others]
    spare = sorted(other.found.keys() - folder.found.keys())
    if unread:
        hint = f"{_listed(path.name for path in unread)} there: {partner}s are read from {_suffixes(other)} files alone"
        remedy = f"Convert the {partner}s" if partner == "image" else "Save the masks as PNG, which loses no label"
    elif spare:
        hint = f"{_listed(other.found[key].name for key in spare)} there without {_article(what)}"
        remedy = f"Give both the same name up to the suffix, or remove the {what}s"
    else:
        hint, remedy = f"{partner}s are {_suffixes(other)} files", f"Add the {partner}s or remove the {what}s"
    raise DataError(
        f"{len(single)} {what}(s) in {folder.path} have no {partner} of the same stem in {other.path}: "
        f"{_listed(folder.found[key].name for key in single)} ({hint}). {remedy}."
    )


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _suffixes(folder: _Folder) -> str:
    return ", ".join(folder.suffixes)


def _others(folder: _Folder) -> str:
    return f"{_listed(path.name for path in folder.others.values())} there, of other kinds"


def _listed(names: Iterable[str]) -> str:
    shown = list(map(_shown, names))
    rest = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + rest


def _shown(name: str) -> str:
    """Return a file's name as text: bytes that are no UTF-8 come from the system as lone surrogates."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
