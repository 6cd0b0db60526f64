"""Where results go: under the stem of their picture, in its folder, and never two under one name."""

import collections
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from prunekit_runtime.errors import PictureUsageError
from prunekit_runtime.spelling import spelled


def unique_stems(names: Sequence[PurePath]) -> list[PurePath]:
    """Return a path without suffix for each relative path of a file: its stem; where several share one, the whole name.

    Two are one where a file system may take them for one: in capitals or not, in either Unicode form.
    """
    stems = [name.parent / name.stem for name in names]
    shared = collections.Counter(map(_key, stems))
    used: set[str] = set()
    result: list[PurePath] = []
    for name, stem in zip(names, stems, strict=True):
        candidate = wanted = stem if shared[_key(stem)] == 1 else name
        number = 2
        # A whole name may be the stem of another picture: a.png beside a.jpg and a.png.png.
        while _key(candidate) in used:
            candidate = wanted.with_name(f"{wanted.name}-{number}")
            number += 1
        used.add(_key(candidate))
        result.append(candidate)
    return result


def with_suffix(stem: PurePath, suffix: str) -> PurePath:
    """Return a stem, which may hold dots, with a suffix put after it."""
    return stem.with_name(stem.name + suffix)


def refuse_existing(targets: Sequence[Path], sources: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse to write over a picture that is read, or over anything unless `overwrite` says so.

    Raises:
        PictureError: some names are taken.
    """
    there = [path for path in targets if os.path.lexists(path)]
    if not there:
        return
    folder = spelled("--out DIR", "out_dir=")
    read = {path.resolve() for path in sources}
    own = next((path for path in there if path.resolve() in read), None)
    if own is not None:
        raise PictureUsageError(
            f"{own} is one of the pictures, and would be overwritten. Name another folder: {folder}"
        )
    if not overwrite:
        raise PictureUsageError(
            f"{len(there)} of the {len(targets)} files to be written are there already, such as {there[0]}. "
            f"Name another folder, {folder}, or {spelled('add --overwrite', 'pass overwrite=True')}."
        )


def _key(path: PurePath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
