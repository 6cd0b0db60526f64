"""Colours of classes: how people write them, and a palette where nobody wrote any."""

import colorsys
import re
from typing import Any, Final

Colour = tuple[int, int, int]
_HEX: Final = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", re.ASCII)
_TRIPLE: Final = re.compile(r"([0-9]{1,5})(?:\s*[,;]\s*|\s+)([0-9]{1,5})(?:\s*[,;]\s*|\s+)([0-9]{1,5})", re.ASCII)


def written_colour(text: Any) -> Any:
    """Return `[128, 64, 128]` for "#804080" or "128 64 128" (commas allowed); anything else as it is."""
    if not isinstance(text, str):
        return text
    if match := _HEX.fullmatch(text.strip()):
        return [int(part, 16) for part in match.groups()]
    if match := _TRIPLE.fullmatch(text.strip()):
        return [int(part) for part in match.groups()]
    return text


def made_up_palette(count: int) -> tuple[Colour, ...]:
    """Return `count` colours that are easy to tell apart, the same for the same count."""
    # Steps of the golden ratio spread hues evenly however many there are; value and saturation alternate.
    hues = [(0.11 + index * 0.618034) % 1.0 for index in range(count)]
    tones = [((0.75, 0.55)[index % 2], (0.95, 0.75, 0.6)[index % 3]) for index in range(count)]
    return tuple(
        as_colour([round(255 * part) for part in colorsys.hsv_to_rgb(hue, *tone)])
        for hue, tone in zip(hues, tones, strict=True)
    )


def as_colour(values: list[int]) -> Colour:
    """Return three numbers as a colour."""
    red, green, blue = values
    return red, green, blue
