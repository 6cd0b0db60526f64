"""Images and masks of public data sets, matched by what their names share or by the owner's list.

An owner's names are known to the letter, so that other files beside them (previews, polygons, converted masks) are not
looked at, and a file without its partner means that an archive is missing or was not unpacked to its end.
"""

import os
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from prunekit.data.pairs import Pair
from prunekit.errors import DataError
from prunekit_runtime.jsonfile import read_bounded
from prunekit_runtime.text import printable_name

_LISTED: Final = 3  # names that an error shows before it counts the rest
_MAX_LIST_BYTES: Final = 1 << 22  # ten times the longest list


def stems(folder: Path, end: str, apart: str = "") -> set[str]:
    """Return the names in `folder` that have this ending, without it; not those that end with `apart`.

    Raises:
        DataError: the folder does not exist or cannot be read.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"Folder {folder.absolute()} cannot be read: {error.strerror}.") from error
    fit = (name for name in names if name.endswith(end) and not (apart and name.endswith(apart)))
    return {name.removesuffix(end) for name in fit if not name.startswith(".")}  # .DS_Store and editors' backups


def matched(images: Path, image_end: str, masks: Path, mask_end: str, *, apart: str = "") -> list[Pair]:
    """Return the files of two folders whose names are the same but for their endings, in the order of their names.

    Args:
        images: the folder of the images.
        image_end: how an image's name ends, the suffix included.
        masks: the folder of the masks.
        mask_end: how a mask's name ends.
        apart: how the names of other files end that end like a mask's.

    Raises:
        DataError: a folder is missing, there are no images, or a file has no partner.
    """
    image_stems, mask_stems = stems(images, image_end), stems(masks, mask_end, apart)
    if not image_stems:
        raise DataError(f"{images.absolute()} holds no *{image_end}.")
    _refuse_single(image_stems - mask_stems, f"image(s) of {images} have no *{mask_end} in {masks}")
    _refuse_single(mask_stems - image_stems, f"mask(s) of {masks} have no *{image_end} in {images}")
    return [Pair(images / f"{stem}{image_end}", masks / f"{stem}{mask_end}") for stem in sorted(image_stems)]


def listed(names: list[str], images: Path, masks: Path) -> list[Pair]:
    """Return the JPEG images and PNG masks of these names, in their order.

    Raises:
        DataError: a folder or a file is missing.
    """
    _refuse_single(set(names) - stems(images, ".jpg"), f"name(s) of the list have no .jpg in {images}")
    _refuse_single(set(names) - stems(masks, ".png"), f"name(s) of the list have no .png in {masks}")
    return [Pair(images / f"{name}.jpg", masks / f"{name}.png") for name in names]


def read_list(path: Path) -> list[str]:
    """Read the names that a list of a split holds, one a line; of a line with paths, the first one's.

    Raises:
        DataError: the list cannot be read, is empty or names an image twice.
    """
    try:
        lines = read_bounded(path, _MAX_LIST_BYTES).decode("utf-8").split("\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"The list {path.absolute()} cannot be read: {reason}.") from error
    names = [PurePosixPath(line.split()[0]).name.removesuffix(".jpg") for line in lines if line.strip()]
    if not names:
        raise DataError(f"The list {path.absolute()} is empty.")
    if len(set(names)) < len(names):
        raise DataError(f"The list {path.absolute()} names {_shown(_repeated(names))} twice.")
    return names


def folders(parent: Path) -> set[str]:
    """Return the names of the folders in a folder.

    Raises:
        DataError: it does not exist or cannot be read.
    """
    return {name for name in stems(parent, "") if (parent / name).is_dir()}


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]


def _refuse_single(single: Collection[str], what: str) -> None:
    if single:
        raise DataError(f"{len(single)} {what}: {_shown(sorted(single))}.")


def _shown(names: list[str]) -> str:
    shown = [printable_name(os.fsencode(name).decode("utf-8", "backslashreplace")) for name in names[:_LISTED]]
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(shown) + rest
