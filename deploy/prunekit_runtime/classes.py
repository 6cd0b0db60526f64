"""The names and colours of a model's classes, which lie beside it in classes.json."""

import colorsys
import dataclasses
from pathlib import Path
from typing import Any, Optional, cast

from prunekit_runtime.errors import ContractError
from prunekit_runtime.jsonfile import parse_json, read_bounded

Colour = tuple[int, int, int]
FILE = "classes.json"
MAX_BYTES = 1 << 20
MAX_CLASSES = 255  # labels are uint8 and 255 is taken by the ignored pixels
MAX_NAME = 200  # characters
_GOLDEN = 0.618  # turns of hue between neighbours, which never meet again


@dataclasses.dataclass(frozen=True)
class Classes:
    """K names and K colours, RGB, in the order of the labels."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...]

    def __len__(self) -> int:
        return len(self.names)


def classes_beside(model: Path) -> Optional[Classes]:
    """Return the classes that were exported with a model; None where no classes.json lies beside it.

    Raises:
        ContractError: the file is damaged.
    """
    path = model.parent / FILE
    return read_classes(path) if path.exists() else None


def read_classes(path: Path) -> Classes:
    """Read a classes.json.

    Raises:
        ContractError: the file is missing or damaged.
    """
    try:
        return _checked(parse_json(read_bounded(path, MAX_BYTES)))
    except FileNotFoundError:
        raise ContractError(f"{path} does not exist. Export the model again.") from None
    except ValueError as error:
        raise ContractError(f"{path} is damaged: {error}. Export the model again.") from None


def numbered(count: int) -> Classes:
    """Return classes for a model that names none: numbers, and colours that are easy to tell apart."""
    hues = (place * _GOLDEN % 1 for place in range(count))
    colours = [colorsys.hsv_to_rgb(hue, 0.75, 0.6 + 0.35 * (place % 2)) for place, hue in enumerate(hues)]
    palette = tuple(cast(Colour, tuple(round(255 * part) for part in colour)) for colour in colours)
    return Classes(tuple(f"class {place}" for place in range(count)), palette)


def _checked(values: Any) -> Classes:
    names, palette = (values.get(key) if isinstance(values, dict) else None for key in ("names", "palette"))
    if not (isinstance(names, list) and isinstance(palette, list) and 0 < len(names) == len(palette) <= MAX_CLASSES):
        raise ValueError(f"it lists no 1 to {MAX_CLASSES} names with as many colours")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in names):
        raise ValueError(f"a name is no text of up to {MAX_NAME} characters")
    if not all(isinstance(colour, list) and len(colour) == 3 and all(map(_is_byte, colour)) for colour in palette):
        raise ValueError("a colour is not three numbers from 0 to 255")
    return Classes(tuple(names), tuple(cast(Colour, tuple(colour)) for colour in palette))


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
