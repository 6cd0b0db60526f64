"""A class table in a text file: rows of name and colour between commas, semicolons or tabs, such as class_dict.csv.

The first row may name the columns, in any order: `name`, the colour as `r`, `g`, `b` or as one `color` (#804080, or
"128 64 128"), and an `id`, the number in index masks.
"""

import csv
import re
from collections.abc import Sequence
from typing import Any, Final

from prunekit.data.labels.colours import written_colour
from prunekit.errors import DataError

_SEPARATORS: Final = (",", ";", "\t")
_COLUMNS: Final = {
    "name": ("name", "class", "class_name", "classname", "category", "label"),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
    "colour": ("colour", "color", "hex", "rgb", "color_rgb"),
    "id": ("id", "idx", "index", "class_id", "label_id"),
}
_COLOUR: Final = ("red", "green", "blue")
_NUMBER: Final = re.compile(r"\s*[0-9]{1,5}\s*", re.ASCII)


def is_table(lines: Sequence[str]) -> bool:
    """Tell whether lines are such a table: the first names columns, or one holds a name and three numbers."""
    return sum(map(bool, _kinds(_split(lines[0])))) > 1 or any(_is_coloured(_split(line)) for line in lines)


def read_table(lines: Sequence[str], source: str) -> list[dict[str, Any]]:
    """Return the rows as `{"name": ..., "colour": [r, g, b], "id": 7}` in their order, as far as there are columns.

    Args:
        lines: the table's lines, without blank ones and comments.
        source: the file, for messages.

    Raises:
        DataError: columns are unknown or missing, a row has another number of them, or a colour is no number.
    """
    separator = _separator(lines[0])
    try:
        rows = [[part.strip() for part in row] for row in csv.reader(lines, delimiter=separator, strict=True)]
    except csv.Error as error:
        raise DataError(f"Class table {source} is no table of {separator!r}: {error}. Correct its quotes.") from None
    columns = _header(rows[0])
    body = rows if columns is None else rows[1:]
    columns = columns or _usual(rows[0], source)
    if not body:
        raise DataError(f"Class table {source} names columns and no class. Write one class per row below them.")
    return [_entry(row, columns, place, source) for place, row in enumerate(body)]


def _separator(first: str) -> str:
    """Return what the columns of a table's first row stand between, the first that makes sense of it."""
    for separator in _SEPARATORS:
        parts = _split(first, separator)
        if len(parts) > 1 and (_header(parts) is not None or _is_coloured(parts)):
            return separator
    return _SEPARATORS[0]


def _split(line: str, separator: str | None = None) -> list[str]:
    separator = _separator(line) if separator is None else separator
    try:
        return [part.strip() for part in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:  # a field of over 128 KiB
        return [line]


def _is_coloured(parts: Sequence[str]) -> bool:
    return len(parts) >= 4 and sum(_NUMBER.fullmatch(part) is not None for part in parts) >= 3


def _kinds(first: Sequence[str]) -> list[str]:
    """Return what each column holds by its name; empty where the name is not known."""
    return [next((kind for kind, names in _COLUMNS.items() if part.lower() in names), "") for part in first]


def _header(first: Sequence[str]) -> list[str] | None:
    """Return what each column holds, if the first row says so for all."""
    kinds = _kinds(first)
    whole = all(kinds) and "name" in kinds and len(set(kinds)) == len(kinds)
    channels = sum(kind in _COLOUR for kind in kinds)
    return kinds if whole and channels in (0, 3) and not (channels and "colour" in kinds) else None


def _usual(first: Sequence[str], source: str) -> list[str]:
    """Return the columns of a table that does not name them."""
    if len(first) == 1:
        return ["name"]
    if len(first) == 4 and all(_NUMBER.fullmatch(part) for part in first[1:]):
        return ["name", *_COLOUR]
    if len(first) == 5 and all(_NUMBER.fullmatch(part) for part in (first[0], *first[2:])):
        return ["id", "name", *_COLOUR]
    raise DataError(
        f"Class table {source} begins with {_short(first)}, which is neither a class with its colour nor names of "
        "columns that are known. Write name,r,g,b in the first row, and one class per row below."
    )


def _entry(row: Sequence[str], columns: Sequence[str], place: int, source: str) -> dict[str, Any]:
    if len(row) != len(columns):
        raise DataError(
            f"Class table {source}: class {place} has {len(row)} columns, {_short(row)}, and the table {len(columns)}. "
            'Correct the row; put a name that holds a comma between quotes, "like, this".'
        )
    values = dict(zip(columns, row, strict=True))
    entry: dict[str, Any] = {"name": values["name"]}
    if "red" in values:
        entry["colour"] = [_number(values[part], row, source) for part in _COLOUR]
    if "colour" in values:
        entry["colour"] = written_colour(values["colour"])
    if "id" in values:
        if _NUMBER.fullmatch(values["id"]) is None:
            raise DataError(
                f"Class table {source} gives class {place}, {values['name'][:40]!r}, the id {values['id'][:20]!r}. "
                "Write the number that the class has in the masks."
            )
        entry["id"] = int(values["id"])
    return entry


def _number(text: str, row: Sequence[str], source: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise DataError(f"Class table {source}: {_short(row)} has {text[:20]!r} for a colour. Write 0 to 255.")
    return int(text)


def _short(row: Sequence[str]) -> str:
    return repr(",".join(row)[:80])
