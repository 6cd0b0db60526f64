"""The class list of a folder data set: names in the order of their labels, colours, and how masks are stored.

As TOML, everything but the names optional:

    ignore_index = 255          # number in index masks of pixels that do not count; or several: [0, 255]
    ignore_colour = [0, 0, 0]   # colour in RGB masks of pixels that do not count
    masks = "auto"              # "index": the stored number is the class; "colour": the shown colour is;
                                # "auto": index for grey and palette PNGs, colour for RGB
    [[classes]]
    name = "road"
    colour = [128, 64, 128]     # or "#804080"; color is read too
    id = 7                      # number in index masks, or several: [7, 8]; without ids the place in the list, from 0

    [label_map]                 # in place of ids: number in index masks -> name, place in the list, or "ignore"
    7 = "road"
    "34-40" = "ignore"

As text, one class a line, `road` or `road 128 64 128`, or a table, `road,128,64,128`, with or without the names of its
columns in the first row (`labels.table`); blank lines and lines that start with # do not count. docs/data.md has
examples of each.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from prunekit.data.dataset import IGNORE_INDEX, ClassMap
from prunekit.data.labels.colours import Colour, as_colour
from prunekit.data.labels.colours import made_up_palette as made_up_palette
from prunekit.data.labels.document import Document, MaskKind
from prunekit.data.labels.numbers import Numbers, numbers_of
from prunekit.data.labels.table import is_table, read_table
from prunekit.errors import DataError, DataUsageError
from prunekit.tomltext import parse_toml
from prunekit.validation import sentences
from prunekit_runtime.near import near_path

CLASS_LISTS: Final = ("classes.toml", "classes.txt", "classes.csv")
MAX_LIST_BYTES: Final = 1 << 20
_NUMBER: Final = re.compile(r"[0-9]+", re.ASCII)
_HEX: Final = re.compile(r"#[0-9a-fA-F]{6}", re.ASCII)
_OTHER_SUFFIXES: Final = (".json", ".yaml", ".yml", ".xml")
_LISTED: Final = 10  # mistakes that an error shows before it counts the rest


@dataclass(frozen=True)
class ClassList:
    """A class map, and how the masks on disk refer to it."""

    classes: ClassMap
    coloured: bool
    """The colours were given, so that masks may show them; else the palette is made up for pictures."""
    ignore_index: int | tuple[int, ...] = IGNORE_INDEX
    """The numbers in index masks that become the class map's ignore index."""
    ignore_colour: Colour | None = None
    masks: MaskKind = "auto"
    values: tuple[int, ...] = ()
    """The number in index masks of each class (data.mask_values); empty where the class list says which."""
    numbers: Numbers = ()
    """Number in index masks and its label, by ids or a label map; empty where that is the class's place in the list."""

    def __post_init__(self) -> None:
        if self.values and self.numbers:
            raise DataError(
                "data.mask_values names numbers, and the class list does too, by id or label_map. Keep one of them."
            )
        if self.values and len(self.values) != len(self.classes):
            raise DataError(
                f"data.mask_values names {len(self.values)} numbers, the class list {len(self.classes)} classes. "
                "Give one number per class, in the order of the list."
            )
        known = self._class_numbers
        for number in self._ignore_numbers:
            given_way = number == IGNORE_INDEX and (self.values or self.numbers)  # 255 is ignored unless it is a class
            if known.get(number, IGNORE_INDEX) != IGNORE_INDEX and not given_way:
                raise DataError(_ignored_class(number, self.classes.names, known[number]))

    @cached_property
    def label_of(self) -> dict[int, int]:
        """The label of each number that index masks may hold."""
        return dict.fromkeys(self._ignore_numbers, IGNORE_INDEX) | self._class_numbers

    @property
    def _ignore_numbers(self) -> tuple[int, ...]:
        return (self.ignore_index,) if isinstance(self.ignore_index, int) else self.ignore_index

    @property
    def _class_numbers(self) -> dict[int, int]:
        if self.numbers:
            return dict(self.numbers)
        return {number: label for label, number in enumerate(self.values or range(len(self.classes)))}


def _ignored_class(number: int, names: tuple[str, ...], label: int) -> str:
    others = f"1-{len(names) - 1}" if number == 0 and len(names) > 1 else "..."
    return (
        f"ignore_index {number} is also the class {names[label]!r} in the masks. To ignore that class, remove it from "
        f"the list and name the numbers of the others: --set data.mask_values={others} . Else choose a number that is "
        "no class."
    )


def read_class_list(path: Path, values: tuple[int, ...] = (), ignore_index: tuple[int, ...] = ()) -> ClassList:
    """Read a class list; a name ending in .toml is TOML, anything else text or a table.

    Args:
        path: the file.
        values: the number of each class in index masks, where that is not its place in the list.
        ignore_index: the numbers in index masks that do not count, in place of those that the list names.

    Raises:
        DataUsageError: the file is missing, too large, malformed, colours only some classes, repeats a colour or a
            number, or does not fit `values` or `ignore_index`.
    """
    try:
        return _read(path, values, ignore_index)
    except DataError as error:
        raise DataUsageError(str(error)) from None  # whatever is wrong with it, its writer mends it


def _read(path: Path, values: tuple[int, ...], ignore_index: tuple[int, ...]) -> ClassList:
    text = _read_text(path)
    document = _from_toml(text, path) if path.suffix.lower() == ".toml" else _from_text(text, path)
    colours = [as_colour(entry.colour) for entry in document.classes if entry.colour is not None]
    if colours and len(colours) != len(document.classes):
        raise DataError(f"{path} gives {len(colours)} of {len(document.classes)} classes a colour. Give all, or none.")
    ignored = None if document.ignore_colour is None else as_colour(document.ignore_colour)
    palette = tuple(colours) or made_up_palette(len(document.classes))
    try:
        found = ClassList(
            ClassMap(tuple(entry.name for entry in document.classes), palette),
            coloured=bool(colours),
            ignore_index=ignore_index or tuple(document.ignore_index),
            ignore_colour=ignored,
            masks=document.masks,
            values=values,
            numbers=numbers_of(document),
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    _refuse_repeated(colours if ignored is None else [*colours, ignored], path)
    return found


def _inside(folder: Path) -> str:
    found = next((name for name in CLASS_LISTS if (folder / name).is_file()), None)
    return "" if found is None else f". Did you mean {folder / found}?"


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise DataUsageError(f"{path} is a folder, and a class list is a file. Name one: --classes FILE{_inside(path)}")
    if not path.is_file():
        raise DataUsageError(
            f"Class list {path.absolute()} does not exist.{near_path(path)} Name one: --classes FILE, or data.classes "
            "in the recipe; or put classes.toml into the data set's folder."
        )
    if path.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"Class list {path} has over {MAX_LIST_BYTES} bytes. Is it a class list?")
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets begin a file with a byte order mark
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"Class list {path} cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from error


def _from_toml(text: str, path: Path) -> Document:
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise DataError(f"Class list {path} is not TOML: {error}. Correct the line, or name it .txt.") from error
    return _document(values, path)


def _from_text(text: str, path: Path) -> Document:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"Class list {path} is empty. Write one class name per line, in the order of the labels.")
    if path.suffix.lower() in _OTHER_SUFFIXES or lines[0].startswith(("{", "[", "<", "---")):
        raise DataError(
            f"Class list {path} looks like JSON, YAML, XML or TOML of another name, and its lines are no class names. "
            "Write a class list as TOML (.toml), as a table (.csv) or as text, one class per line."
        )
    table = path.suffix.lower() in (".csv", ".tsv") or is_table(lines)
    return _document({"classes": read_table(lines, str(path)) if table else list(map(_entry, lines))}, path)


def _document(values: dict[str, Any], path: Path) -> Document:
    try:
        return Document.model_validate(values)
    except ValidationError as error:
        lines = sentences(error, Document, most=_LISTED)
        raise DataError(
            f"Class list {path} cannot be followed:\n  " + "\n  ".join(lines) + "\n"
            "It holds [[classes]] tables with name, colour and id, and may hold ignore_index, ignore_colour, masks and "
            "label_map."
        ) from None


def _entry(line: str) -> dict[str, Any]:
    *name, last = line.split()
    if name and _HEX.fullmatch(last):
        return {"name": " ".join(name), "colour": last}
    *words, red, green, blue = ["", "", "", *line.split()]
    if len(words) > 3 and all(_NUMBER.fullmatch(part) for part in (red, green, blue)):
        return {"name": " ".join(words[3:]), "colour": [_channel(part) for part in (red, green, blue)]}
    return {"name": line}


def _channel(digits: str) -> int:
    """Return a number, or for one of many digits another that is no colour either: Python converts 4300 at most."""
    return int(digits) if len(digits) < 10 else 10**9


def _refuse_repeated(colours: list[Colour], path: Path) -> None:
    for colour in colours:
        if colours.count(colour) > 1:
            raise DataError(f"{path} gives the colour {list(colour)} twice. Give each class its own.")
