r"""Names in pictures: in a font that has their letters, or as escapes such as \u9053; never as empty boxes.

Pillow's own font has ASCII and little more, so names in other scripts take a font of the system, where there is one.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

_SYSTEM_FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
)
_NO_LETTER: Final = "\U0010fffd"  # for private use: a font draws what it draws for every letter it lacks


@dataclass(frozen=True)
class Lettering:
    """A text and the font to draw it in."""

    text: str
    font: Font
    whole: bool
    """The text is as it was given; else letters that no font has are escapes."""

    @property
    def width(self) -> int:
        """Width when drawn [px]."""
        return round(self.font.getbbox(self.text)[2])


def lettering(text: str, size: int) -> Lettering:
    """Return how to draw one line of text in letters of `size` pixels: in the first font that lacks least of them."""
    text = unicodedata.normalize("NFC", printable_name(text))  # accents as one letter: of two, fonts draw two
    fonts = [(place, font) for place in range(len(_SYSTEM_FONTS) + 1) if (font := _font(place, size)) is not None]
    lacking = [{letter for letter in set(text) if not _has(place, size, letter)} for place, _ in fonts]
    best = min(range(len(fonts)), key=lambda number: len(lacking[number]))
    drawn = "".join(escaped(letter) if letter in lacking[best] else letter for letter in text)
    return Lettering(drawn, fonts[best][1], whole=not lacking[best])


def escaped(letter: str) -> str:
    r"""Return the escape of a letter, such as \u9053."""
    return letter.encode("ascii", "backslashreplace").decode()


@functools.lru_cache(maxsize=128)
def _font(place: int, size: int) -> Font | None:
    """Return Pillow's own font, at 0, or one of the system's; None where it is not there."""
    from PIL import ImageFont

    if place == 0:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(_SYSTEM_FONTS[place - 1], size)
    except OSError:
        return None


@functools.lru_cache(maxsize=1 << 16)
def _has(place: int, size: int, letter: str) -> bool:
    return letter == " " or _drawn(place, size, letter) != _drawn(place, size, _NO_LETTER)


def _drawn(place: int, size: int, letter: str) -> bytes:
    from PIL import Image, ImageDraw

    font = _font(place, size)
    assert font is not None, "asked for fonts that are there"
    picture = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(picture).text((size // 2, 0), letter, fill=255, font=font)
    return picture.tobytes()
