"""What is to be labelled: files, folders with all below them, and patterns, each picture once and in a fixed order."""

import dataclasses
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Optional

from prunekit_runtime.errors import PictureUsageError
from prunekit_runtime.near import near_path

_WILD = "*?["


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, and its name as seen from the folder that all of them lie in."""

    path: Path
    name: PurePath


@dataclasses.dataclass(frozen=True)
class Found:
    """The files to be read, and how many others lay in the folders."""

    sources: tuple[Source, ...]
    others: int


def find_sources(arguments: Sequence[Path], suffixes: tuple[str, ...], *, leave_out: Optional[Path] = None) -> Found:
    """Find the files that the arguments stand for: a file whatever its suffix, a folder's or a pattern's by `suffixes`.

    Args:
        arguments: files, folders, which are searched with all folders below them, or patterns such as "a/**/*.png".
        suffixes: of the files that are taken from folders and patterns, in lower case.
        leave_out: a folder that is not searched: the one that results go to.

    Raises:
        PictureError: an argument is not there, or holds none of these files.
    """
    roots: list[str] = []
    paths: list[str] = []
    others = 0
    for argument in arguments:
        root, found, ignored = _find(argument, suffixes, leave_out)
        roots.append(root)
        paths.extend(found if argument.is_absolute() else map(os.path.relpath, found))
        others += ignored
    root = roots[0] if len(roots) == 1 else _common(arguments, roots)
    return Found(tuple(Source(Path(path), PurePath(os.path.relpath(path, root))) for path in _once(paths)), others)


def _once(paths: list[str]) -> list[str]:
    """Return the paths, each file once, under the first name that was given."""
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(os.path.abspath(path), path)
    return list(first.values())


def _find(argument: Path, suffixes: tuple[str, ...], leave_out: Optional[Path]) -> tuple[str, list[str], int]:
    """Return the folder that names begin at, the files, and the number of files that are not taken."""
    full = os.path.abspath(argument)
    if os.path.isfile(full):
        return os.path.dirname(full), [full], 0
    if os.path.isdir(full):
        everything, root = list(_walk(full, leave_out)), full
    elif any(letter in str(argument) for letter in _WILD):
        everything, root = _matches(full, leave_out), _fixed_part(full)
    else:
        raise PictureUsageError(
            f"{argument} does not exist.{near_path(argument)} "
            "Name a picture, a folder, or a pattern such as 'photos/*.png'."
        )
    found = [path for path in everything if os.path.splitext(path)[1].lower() in suffixes]
    if not found:
        rest = f"; {len(everything)} files of other kinds are there" if everything else ""
        raise PictureUsageError(
            f"{argument} holds no {', '.join(suffixes)} files{rest}. Name another folder or pattern."
        )
    return root, found, len(everything) - len(found)


def _walk(folder: str, leave_out: Optional[Path]) -> Iterable[str]:
    """Yield all files below a folder in order, hidden ones aside; links are followed, and no folder twice."""
    seen = set() if leave_out is None else {os.path.realpath(leave_out)}
    if os.path.realpath(folder) in seen:
        return
    for parent, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) not in seen
        )
        yield from (os.path.join(parent, name) for name in sorted(files) if not name.startswith("."))


def _matches(pattern: str, leave_out: Optional[Path]) -> list[str]:
    kept_out = None if leave_out is None else os.path.join(os.path.abspath(leave_out), "")
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    return [path for path in found if kept_out is None or not path.startswith(kept_out)]


def _fixed_part(pattern: str) -> str:
    """Return the folder of a pattern in which its first wild card stands."""
    head = pattern
    while any(letter in head for letter in _WILD):
        head = os.path.dirname(head)
    return head


def _common(arguments: Sequence[Path], roots: list[str]) -> str:
    """Return the folder that holds all; of several folders each one's own name is part of the names then."""
    whole = [
        os.path.dirname(root) if argument.is_dir() else root for argument, root in zip(arguments, roots, strict=True)
    ]
    return os.path.commonpath(whole)
