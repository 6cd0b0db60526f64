"""The legend of a palette: number, colour and name of each class, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from prunekit.pictures.lettering import lettering
from prunekit_runtime.pictures.png_writer import encode_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from prunekit_runtime.classes import Classes, Colour

ROWS: Final = 20  # classes a column
MAX_LETTERS: Final = 40  # of a name
_FONT: Final = 18  # px
_LINE: Final = 28
_SWATCH: Final = 20
_MARGIN: Final = 12
_PAPER, _INK, _FRAME = (255, 255, 255), (20, 20, 20), (150, 150, 150)


def encode_legend(classes: Classes) -> bytes:
    """Return a PNG that lists the classes in columns, the same bytes for the same classes and fonts."""
    entries = [(f"{label}  {short(name)}", colour) for label, (name, colour) in enumerate(_pairs(classes))]
    return encode_picture(np.array(draw_legend(entries)))


def draw_legend(entries: Sequence[tuple[str, Colour]], rows: int = ROWS) -> Image:
    """Return a picture of texts behind swatches of their colours, in columns of at most `rows`."""
    from PIL import Image, ImageDraw

    texts = [lettering(text, _FONT) for text, _ in entries]
    column = _SWATCH + 3 * _MARGIN + max(text.width for text in texts)
    rows, columns = min(rows, len(texts)), -(-len(texts) // rows)
    sheet = Image.new("RGB", (columns * column + _MARGIN, rows * _LINE + 2 * _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (text, (_, colour)) in enumerate(zip(texts, entries, strict=True)):
        left, top = _MARGIN + place // rows * column, _MARGIN + place % rows * _LINE
        box = (left, top + (_LINE - _SWATCH) // 2, left + _SWATCH, top + (_LINE + _SWATCH) // 2)
        draw.rectangle(box, fill=colour, outline=_FRAME)
        draw.text((left + _SWATCH + _MARGIN, top + _LINE // 2), text.text, fill=_INK, font=text.font, anchor="lm")
    return sheet


def short(name: str) -> str:
    """Return a name cut to what a legend has room for."""
    return name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 3]}..."


def _pairs(classes: Classes) -> list[tuple[str, Colour]]:
    return list(zip(classes.names, classes.palette, strict=True))
