"""Which numbers in masks stand for which class: ids of classes and label maps, as a class list writes them."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.labels.document import MAX_NUMBER, Document
from prunekit.errors import DataError

Numbers = tuple[tuple[int, int], ...]
"""Pairs of a number in the masks and its label, which is the ignore index for pixels that do not count."""
IGNORED: Final = "ignore"
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?", re.ASCII)
_LISTED: Final = 5


def numbers_of(document: Document) -> Numbers:
    """Return what a class list says about numbers; nothing where they are the classes' places in it.

    Raises:
        DataError: a number is given twice, some classes have none, or a label map names what is no class.
    """
    names = [entry.name for entry in document.classes]
    given = [entry.name for entry in document.classes if entry.id is not None]
    if given and document.label_map:
        raise DataError("id and label_map both say which number a class has. Keep one of them.")
    if given and len(given) != len(names):
        raise DataError(f"{len(given)} of {len(names)} classes have an id. Give all one, or none.")
    pairs = _from_map(document.label_map, names) if document.label_map else _from_ids(document)
    label_of: dict[int, int] = {}
    for number, label in pairs:  # ends at the first repetition, however long the ranges are
        if number in label_of:
            both = " and ".join(repr(_name(one, names)) for one in (label_of[number], label))
            raise DataError(f"The number {number} is given twice, to {both}. Keep one.")
        label_of[number] = label
    if label_of == {label: label for label in range(len(names))}:
        return ()
    _refuse_unreachable(set(label_of.values()) if label_of else set(range(len(names))), names)
    return tuple(sorted(label_of.items()))


def listed_numbers(numbers: list[int]) -> str:
    """Return numbers as an error shows them, runs of them as ranges: "0-18, 33 and 4 more"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_LISTED]]
    rest = sum(last - first + 1 for first, last in runs[_LISTED:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _from_ids(document: Document) -> Iterator[tuple[int, int]]:
    for label, entry in enumerate(document.classes):
        for number in entry.id or ():
            yield number, label


def _from_map(label_map: Mapping[str, str | int], names: list[str]) -> Iterator[tuple[int, int]]:
    if IGNORED in names:
        raise DataError(
            f"label_map takes {IGNORED!r} for pixels that do not count, and a class has that name. Rename it."
        )
    for key, target in label_map.items():
        match = _RANGE.fullmatch(key.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MAX_NUMBER:
            raise DataError(
                f"label_map has {key[:40]!r} for a number of the masks. Write 0 to {MAX_NUMBER}, or a rising range "
                'in quotes: "34-40".'
            )
        label = _target(target, key, names)
        for number in range(first, last + 1):
            yield number, label


def _target(target: str | int, key: str, names: list[str]) -> int:
    if target in (IGNORED, IGNORE_INDEX):
        return IGNORE_INDEX
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, int) and 0 <= target < len(names):
        return target
    near = difflib.get_close_matches(str(target), [*names, IGNORED], 1)
    meant = f" Is it {near[0]!r}?" if near else ""
    raise DataError(
        f"label_map makes {key[:40]} {str(target)[:40]!r}, which is no class of the list.{meant} "
        f"Write the name of a class, its place (0 to {len(names) - 1}), or {IGNORED!r}."
    )


def _refuse_unreachable(reached: set[int], names: list[str]) -> None:
    missing = [repr(name) for label, name in enumerate(names) if label not in reached]
    if missing:
        rest = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise DataError(
            f"label_map has no number for {', '.join(missing[:_LISTED])}{rest}, so no mask could show it. "
            "Add the number, or remove the class."
        )


def _name(label: int, names: list[str]) -> str:
    return IGNORED if label == IGNORE_INDEX else names[label]
