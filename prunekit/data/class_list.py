"""The class list of a folder data set: names in the order of their labels, colours, and how masks are stored.

As TOML, everything but the names optional:

    ignore_index = 255          # number in index masks of pixels that do not count
    ignore_colour = [0, 0, 0]   # colour in RGB masks of pixels that do not count
    masks = "auto"              # "index": the stored number is the class; "colour": the shown colour is;
                                # "auto": index for grey and palette PNGs, colour for RGB
    [[classes]]
    name = "road"
    colour = [128, 64, 128]

As text, one class a line, `road` or `road 128 64 128`, or a table, `road,128,64,128`, with or without the names of its
columns in the first row (`labels.table`); blank lines and lines that start with # do not count.
"""

import colorsys
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunekit.data.dataset import IGNORE_INDEX, ClassMap
from prunekit.data.labels.table import is_table, read_table
from prunekit.errors import DataError
from prunekit.tomltext import parse_toml, shown

MAX_LIST_BYTES: Final = 1 << 20
Colour = tuple[int, int, int]
MaskKind = Literal["auto", "index", "colour"]
_NUMBER: Final = re.compile(r"[0-9]+", re.ASCII)
_OTHER_SUFFIXES: Final = (".json", ".yaml", ".yml", ".xml")
_LISTED: Final = 10  # mistakes that an error shows before it counts the rest


@dataclass(frozen=True)
class ClassList:
    """A class map, and how the masks on disk refer to it."""

    classes: ClassMap
    coloured: bool
    """The colours were given, so that masks may show them; else the palette is made up for pictures."""
    ignore_index: int = IGNORE_INDEX
    """The number in index masks that becomes the class map's ignore index."""
    ignore_colour: Colour | None = None
    masks: MaskKind = "auto"
    values: tuple[int, ...] = ()
    """The number in index masks of each class; empty where that is the class's own place in the list."""

    def __post_init__(self) -> None:
        if self.values and len(self.values) != len(self.classes):
            raise DataError(
                f"data.mask_values names {len(self.values)} numbers, the class list {len(self.classes)} classes. "
                "Give one number a class, in the order of the list."
            )
        known = self.values or range(len(self.classes))
        if self.ignore_index in known and not (self.values and self.ignore_index == IGNORE_INDEX):
            name = self.classes.names[known.index(self.ignore_index)]
            raise DataError(
                f"ignore_index {self.ignore_index} is also the class {name!r} in the masks. "
                "Choose a number that is no class, or remove that class from the list if it is the last."
            )

    @property
    def ignored_value(self) -> int | None:
        """The number in index masks of pixels that do not count; None where every number is a class."""
        return None if self.ignore_index in self.values else self.ignore_index


_Channel = Annotated[int, Field(ge=0, le=255)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    colour: list[_Channel] | None = Field(None, min_length=3, max_length=3)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    ignore_index: int = Field(IGNORE_INDEX, ge=0, le=65535)
    ignore_colour: list[_Channel] | None = Field(None, min_length=3, max_length=3)
    masks: MaskKind = "auto"
    classes: list[_Entry] = Field(min_length=1)


def read_class_list(path: Path, values: tuple[int, ...] = ()) -> ClassList:
    """Read a class list; a name ending in .toml is TOML, anything else text or a table.

    Args:
        path: the file.
        values: the number of each class in index masks, where that is not its place in the list.

    Raises:
        DataError: the file is missing, too large, malformed, colours only some classes, repeats a colour, or does not
            fit `values`.
    """
    text = _read_text(path)
    document = _from_toml(text, path) if path.suffix.lower() == ".toml" else _from_text(text, path)
    colours = [_colour(entry.colour) for entry in document.classes if entry.colour is not None]
    if colours and len(colours) != len(document.classes):
        raise DataError(f"{path} gives {len(colours)} of {len(document.classes)} classes a colour. Give all, or none.")
    ignored = None if document.ignore_colour is None else _colour(document.ignore_colour)
    palette = tuple(colours) or made_up_palette(len(document.classes))
    try:
        classes = ClassMap(tuple(entry.name for entry in document.classes), palette)
        found = ClassList(classes, bool(colours), document.ignore_index, ignored, document.masks, values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    _refuse_repeated(colours if ignored is None else [*colours, ignored], path)
    return found


def made_up_palette(count: int) -> tuple[Colour, ...]:
    """Return `count` colours that are easy to tell apart, the same for the same count."""
    # Steps of the golden ratio spread hues evenly however many there are; value and saturation alternate.
    hues = [(0.11 + index * 0.618034) % 1.0 for index in range(count)]
    tones = [((0.75, 0.55)[index % 2], (0.95, 0.75, 0.6)[index % 3]) for index in range(count)]
    return tuple(
        _colour([round(255 * part) for part in colorsys.hsv_to_rgb(hue, *tone)])
        for hue, tone in zip(hues, tones, strict=True)
    )


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise DataError(
            f"Class list {path.absolute()} does not exist. Name one as data.classes (--set data.classes=FILE), "
            "or put classes.toml into the data set's folder."
        )
    if path.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"Class list {path} has over {MAX_LIST_BYTES} bytes. Is it a class list?")
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets begin a file with a byte order mark
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"Class list {path} cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from error


def _from_toml(text: str, path: Path) -> _Document:
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise DataError(f"Class list {path} is not TOML: {error}. Correct the line, or name it .txt.") from error
    return _document(values, path)


def _from_text(text: str, path: Path) -> _Document:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"Class list {path} is empty. Write one class name a line, in the order of the labels.")
    if path.suffix.lower() in _OTHER_SUFFIXES or lines[0].startswith(("{", "[", "<", "---")):
        raise DataError(
            f"Class list {path} looks like JSON, YAML, XML or TOML of another name, and its lines are no class names. "
            "Write a class list as TOML (.toml), as a table (.csv) or as text, one class a line."
        )
    table = path.suffix.lower() in (".csv", ".tsv") or is_table(lines)
    return _document({"classes": read_table(lines, str(path)) if table else list(map(_entry, lines))}, path)


def _document(values: dict[str, Any], path: Path) -> _Document:
    try:
        return _Document.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {shown(e['input'])})" for e in error.errors()]
        rest = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        raise DataError(
            f"Class list {path} cannot be followed:\n  " + "\n  ".join([*lines[:_LISTED], *rest]) + "\n"
            "It holds [[classes]] tables with name and colour, and may hold ignore_index, ignore_colour and masks."
        ) from None


def _entry(line: str) -> dict[str, Any]:
    *words, red, green, blue = ["", "", "", *line.split()]
    if len(words) > 3 and all(_NUMBER.fullmatch(part) for part in (red, green, blue)):
        return {"name": " ".join(words[3:]), "colour": [_channel(part) for part in (red, green, blue)]}
    return {"name": line}


def _channel(digits: str) -> int:
    """Return a number, or for one of many digits another that is no colour either: Python converts 4300 at most."""
    return int(digits) if len(digits) < 10 else 10**9


def _colour(values: list[int]) -> Colour:
    red, green, blue = values
    return red, green, blue


def _refuse_repeated(colours: list[Colour], path: Path) -> None:
    for colour in colours:
        if colours.count(colour) > 1:
            raise DataError(f"{path} gives the colour {list(colour)} twice. Give each class its own.")
