"""The class list of a folder data set: names in the order of their labels, colours, and how masks are stored.

As TOML, everything but the names optional:

    ignore_index = 255          # number in index masks of pixels that do not count
    ignore_colour = [0, 0, 0]   # colour in RGB masks of pixels that do not count
    masks = "auto"              # "index": the stored number is the class; "colour": the shown colour is;
                                # "auto": index for grey and palette PNGs, colour for RGB
    [[classes]]
    name = "road"
    colour = [128, 64, 128]

As text, one class a line, `road` or `road 128 64 128`; blank lines and lines that start with # do not count.
"""

import colorsys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunekit.data.dataset import IGNORE_INDEX, ClassMap
from prunekit.errors import DataError

MAX_LIST_BYTES: Final = 1 << 20
Colour = tuple[int, int, int]
MaskKind = Literal["auto", "index", "colour"]


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


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    colour: list[int] | None = Field(None, min_length=3, max_length=3)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    ignore_index: int = Field(IGNORE_INDEX, ge=0, le=65535)
    ignore_colour: list[int] | None = Field(None, min_length=3, max_length=3)
    masks: MaskKind = "auto"
    classes: list[_Entry] = Field(min_length=1)


def read_class_list(path: Path) -> ClassList:
    """Read a class list; a name ending in .toml is TOML, anything else text.

    Raises:
        DataError: the file is missing, too large, malformed, colours only some classes, or repeats a colour.
    """
    text = _read_text(path)
    document = _from_toml(text, path) if path.suffix.lower() == ".toml" else _from_text(text, path)
    colours = [entry.colour for entry in document.classes if entry.colour is not None]
    if colours and len(colours) != len(document.classes):
        raise DataError(f"{path} gives {len(colours)} of {len(document.classes)} classes a colour. Give all, or none.")
    palette = tuple(map(_colour, colours)) if colours else made_up_palette(len(document.classes))
    classes = ClassMap(tuple(entry.name for entry in document.classes), palette)
    if document.ignore_index < len(classes):
        raise DataError(
            f"{path}: ignore_index {document.ignore_index} is also the class {classes.names[document.ignore_index]!r}. "
            "Choose a number that is no class, or remove that class from the list if it is the last."
        )
    ignored = None if document.ignore_colour is None else _colour(document.ignore_colour)
    _refuse_repeated([*map(_colour, colours), *([] if ignored is None else [ignored])], path)
    return ClassList(classes, bool(colours), document.ignore_index, ignored, document.masks)


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
        raise DataError(f"Class list {path} does not exist. Name one as data.classes, or put classes.toml in the root.")
    if path.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"Class list {path} has over {MAX_LIST_BYTES} bytes. Is it a class list?")
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"Class list {path} cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from error


def _from_toml(text: str, path: Path) -> _Document:
    try:
        values: dict[str, Any] = tomllib.loads(text)
        return _Document.model_validate(values)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"Class list {path} is not TOML: {error}. Correct the line, or name it .txt.") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise DataError(
            f"Class list {path} cannot be followed:\n  " + "\n  ".join(lines) + "\n"
            "It holds [[classes]] tables with name and colour, and may hold ignore_index, ignore_colour and masks."
        ) from None


def _from_text(text: str, path: Path) -> _Document:
    lines = [line.strip() for line in text.splitlines()]
    entries = [_entry(line) for line in lines if line and not line.startswith("#")]
    if not entries:
        raise DataError(f"Class list {path} is empty. Write one class name a line, in the order of the labels.")
    return _Document(ignore_index=IGNORE_INDEX, ignore_colour=None, classes=entries)


def _entry(line: str) -> _Entry:
    *words, red, green, blue = ["", "", "", *line.split()]
    if len(words) > 3 and all(part.isdecimal() for part in (red, green, blue)):
        return _Entry(name=" ".join(words[3:]), colour=[int(red), int(green), int(blue)])
    return _Entry(name=line, colour=None)


def _colour(values: list[int]) -> Colour:
    red, green, blue = values
    return red, green, blue


def _refuse_repeated(colours: list[Colour], path: Path) -> None:
    for colour in colours:
        if not all(0 <= value <= 255 for value in colour):
            raise DataError(f"{path}: {list(colour)} is no colour. Write three numbers from 0 to 255.")
        if colours.count(colour) > 1:
            raise DataError(f"{path} gives the colour {list(colour)} twice. Give each class its own.")
