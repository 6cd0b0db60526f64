"""What lies where a pattern points: its files by name, and what else is there, for messages."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prunekit.data.files.names import listed, near, shown
from prunekit.data.files.pattern import Place
from prunekit.errors import DataError, DataUsageError

_REMEMBERED: Final = 1000  # files that fit nothing, for messages


@dataclass(frozen=True)
class Found:
    """The files of one pattern and split."""

    folder: Path
    """What was looked through."""
    place: Place
    files: dict[str, Path] = field(default_factory=dict[str, Path])
    """By {name}, in one Unicode form."""
    unread: dict[str, Path] = field(default_factory=dict[str, Path])
    """The same of files that are not read, because of their suffix."""
    others: list[str] = field(default_factory=list[str])
    """Paths below the folder that do not fit, some of them."""
    twins: list[Path] = field(default_factory=list[Path])
    """Files whose name another has already."""

    def below(self, path: Path) -> str:
        """Return a path as seen from the folder."""
        return os.path.relpath(path, self.folder)

    @property
    def shown(self) -> str:
        """The folder, and the pattern where it says more than that all files of the folder are meant."""
        plain = "/".join([*self.place.folder, "{name}.*"])
        return str(self.folder) if self.place.text == plain else f"{self.folder} (as {shown(self.place.text)})"


def look(root: Path, place: Place, other: Place | None = None, *, keep_twins: bool = False) -> Found:
    """Find the files of a pattern; hidden ones, and those that `other` describes more closely, are left out.

    Raises:
        DataError: the folder is missing, or two files share a name and twins are not to be kept.
    """
    found = Found(_folder(root, place), place)
    for path, below in _walk(found.folder, "/".join(place.folder)):
        fits = place.name_of(below)
        if fits is None:
            if len(found.others) < _REMEMBERED:
                found.others.append(found.below(path))
            continue
        if other is not None and other.written_out > place.written_out and other.name_of(below):
            continue
        name, read = fits
        if read and name in found.files:
            if keep_twins:
                found.twins.append(path)
                continue
            raise DataError(_twins(path, found.files[name]))
        if not read and name in found.unread:
            found.others.append(os.path.relpath(path, found.folder))
            continue
        (found.files if read else found.unread)[name] = path
    return found


def _folder(root: Path, place: Place) -> Path:
    folder = root
    for part in place.folder:
        below = folder / part
        if not below.is_dir():
            names = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
            # The same name in another Unicode form, as another system wrote it.
            same = [name for name in names if unicodedata.normalize("NFC", name) == part]
            if not same:
                raise DataUsageError(_missing(below, part, names))
            below = folder / same[0]
        folder = below
    return folder


def _missing(folder: Path, part: str, names: list[str]) -> str:
    meant = near(part, names)
    hint = f" Is it {shown(meant)}?" if meant else f" There are {listed(names)}." if names else ""
    remedy = "Create it, or correct the folder (--root) or the pattern (--images, --masks)."
    return f"Folder {folder.absolute()} does not exist.{hint} {remedy}"


def _walk(folder: Path, below: str) -> Iterator[tuple[Path, str]]:
    """Yield each file that is not hidden, and its path below the data set's folder; links are followed, not round."""
    above: frozenset[tuple[int, int]] = frozenset()
    waiting = [(folder, below, above)]
    while waiting:
        folder, below, above = waiting.pop()
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            continue
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue  # .DS_Store and editors' backups
            inside = f"{below}/{path.name}" if below else path.name
            if path.is_dir():
                waiting.append((path, inside, above | {here}))
            else:
                yield path, inside


def _twins(path: Path, other: Path) -> str:
    if path.stem == other.stem:
        return f"{path} and {other} share the stem {shown(path.stem)!r}. Rename or remove one."
    return (
        f"{path.parent} holds {path.name!a} and {other.name!a}, which differ in their Unicode form alone and "
        "read the same. Rename or remove one."
    )
