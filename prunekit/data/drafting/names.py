"""A table of class names beside the masks, such as class_dict.csv or labels.txt, and whether it fits them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prunekit.data.drafting.values import Kind
from prunekit.data.labels.class_list import read_class_list
from prunekit.data.labels.colours import Colour
from prunekit.data.labels.masks import Value
from prunekit.errors import DataError

_SUFFIXES: Final = (".csv", ".tsv", ".txt")
_HINTS: Final = ("class", "label", "name", "color", "colour", "palette", "categor", "legend")
"""One of these in a file's name says that it may be such a table; lists of files are texts too."""


@dataclass(frozen=True)
class NameTable:
    """Names by value, from a file."""

    path: Path
    names: Mapping[Value, str]
    colours: Mapping[Value, Colour]
    """By value, where the table colours its classes."""


def find_names(root: Path, kind: Kind, values: tuple[Value, ...]) -> tuple[NameTable | None, list[str]]:
    """Return the first table in a folder which names all values, and a sentence about each that does not.

    Args:
        root: the folder.
        kind: what the masks hold; numbers are a table's ids, or without those the places of its rows, from 0.
        values: those that are classes.
    """
    notes: list[str] = []
    for path in sorted(root.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or not any(hint in path.stem.lower() for hint in _HINTS):
            continue
        try:
            table = _read(path, kind)
        except DataError as error:
            notes.append(f"{path} is not used: {error}")
            continue
        missing = [value for value in values if value not in table.names]
        if not missing:
            return table, notes
        what = "colour" if kind == "colours" else "row"
        shown = ", ".join(str(list(v) if isinstance(v, tuple) else v) for v in missing[:5])
        notes.append(f"{path} is not used: it has no {what} for {shown}{' and others' if len(missing) > 5 else ''}.")
    return None, notes


def _read(path: Path, kind: Kind) -> NameTable:
    listed = read_class_list(path)
    classes = listed.classes
    if kind == "colours":
        if not listed.coloured:
            raise DataError("the masks show colours, and it names none.")
        return NameTable(path, dict(zip(classes.palette, classes.names, strict=True)), {c: c for c in classes.palette})
    places = {number: label for number, label in listed.label_of.items() if label < len(classes)}
    colours: dict[Value, Colour] = {number: classes.palette[place] for number, place in places.items()}
    names: dict[Value, str] = {number: classes.names[place] for number, place in places.items()}
    return NameTable(path, names, colours if listed.coloured else {})
