"""What the masks of a folder hold, before anybody has said what is a class."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from prunekit.data.checking.threads import in_order
from prunekit.data.images import MASK_FORMATS, load
from prunekit.data.labels.colours import Colour
from prunekit.data.labels.masks import Value, shown_colours, stored_numbers
from prunekit.errors import DataError

MAX_DIFFERENT: Final = 1 << 14
"""Values that are told apart over all masks; a data set has 255 classes at most."""
_APART: Final = 24
"""By which two palette colours must differ in a channel to be told apart in pictures."""

Kind = Literal["numbers", "colours"]


@dataclass(frozen=True)
class Held:
    """A value that masks hold."""

    pixels: int
    masks: int
    example: Path


@dataclass(frozen=True)
class MaskValues:
    """What masks hold together."""

    kind: Kind
    masks: int
    """That could be read."""
    unreadable: tuple[str, ...]
    """What is wrong with the others."""
    values: Mapping[Value, Held]
    """In the order of the values."""
    grey: bool
    """All masks are grey, 8 bits a pixel, so that a number is also a colour."""
    palette: Mapping[int, Colour]
    """Colours of the numbers, where the masks have palettes that agree and colours that can be told apart."""


@dataclass(frozen=True)
class _Mask:
    path: Path
    mode: str
    values: dict[Value, int]
    palette: Mapping[int, Colour]


def scan(paths: Sequence[Path], on_mask: Callable[[int, int], None] | None = None) -> MaskValues:
    """Read masks and count what they hold.

    Raises:
        DataError: none can be read, some hold numbers and some colours, or there are too many values for classes.
    """
    masks: list[_Mask] = []
    unreadable: list[str] = []
    totals: dict[Value, Held] = {}
    with closing(in_order(_read, paths)) as read:
        for done, mask in enumerate(read, start=1):
            if isinstance(mask, DataError):
                unreadable.append(str(mask))
            else:
                masks.append(mask)
                _add(totals, mask)
            if on_mask is not None:
                on_mask(done, len(paths))
    if not masks:
        raise DataError(f"No mask can be read. The first: {unreadable[0]}")
    return MaskValues(
        _kind(masks),
        len(masks),
        tuple(unreadable),
        {value: totals[value] for value in sorted(totals, key=_order)},
        all(mask.mode == "L" for mask in masks),
        _agreed_palette(masks),
    )


def _read(path: Path) -> _Mask | DataError:
    try:
        mask = load(path, MASK_FORMATS)
        coloured = mask.mode in ("RGB", "RGBA")
        values = shown_colours(mask, path) if coloured else stored_numbers(mask, path)
    except DataError as error:
        return error
    if len(values) > MAX_DIFFERENT:
        return DataError(f"{path} holds {len(values)} different values. Is it a mask?")
    return _Mask(path, mask.mode, values, {} if coloured else _palette(mask, values))


def _palette(mask: Image.Image, values: Mapping[Value, int]) -> dict[int, Colour]:
    flat = mask.getpalette("RGB") if mask.mode == "P" else None
    if flat is None:
        return {}
    shown = {value: tuple(flat[3 * value : 3 * value + 3]) for value in values if isinstance(value, int)}
    return {value: (c[0], c[1], c[2]) for value, c in shown.items() if len(c) == 3}


def _add(totals: dict[Value, Held], mask: _Mask) -> None:
    for value, pixels in mask.values.items():
        old = totals.get(value)
        totals[value] = (
            Held(pixels, 1, mask.path) if old is None else Held(old.pixels + pixels, old.masks + 1, old.example)
        )
    if len(totals) > MAX_DIFFERENT:
        raise DataError(
            f"The masks hold over {MAX_DIFFERENT} different values, {mask.path} among them: such masks were smoothed, "
            "saved lossily, or are photos. Save them as PNG with one number or colour a class."
        )


def _kind(masks: Sequence[_Mask]) -> Kind:
    coloured = [mask for mask in masks if mask.mode in ("RGB", "RGBA")]
    if coloured and len(coloured) < len(masks):
        number = next(mask for mask in masks if mask.mode not in ("RGB", "RGBA"))
        raise DataError(
            f"{len(coloured)} masks show colours, such as {coloured[0].path}, and {len(masks) - len(coloured)} hold "
            f"numbers, such as {number.path}. Save all in one way."
        )
    return "colours" if coloured else "numbers"


def _agreed_palette(masks: Sequence[_Mask]) -> dict[int, Colour]:
    agreed: dict[int, Colour] = {}
    for mask in masks:
        if mask.mode != "P" or any(
            agreed.setdefault(value, colour) != colour for value, colour in mask.palette.items()
        ):
            return {}
    colours = list(agreed.values())
    near = any(_near(one, other) for place, one in enumerate(colours) for other in colours[:place])
    return {} if near else agreed


def _near(one: Colour, other: Colour) -> bool:
    return all(abs(a - b) < _APART for a, b in zip(one, other, strict=True))


def _order(value: Value) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
