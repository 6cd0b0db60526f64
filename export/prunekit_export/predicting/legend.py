"""The legend of a palette: number, colour and name of each class, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunekit_runtime.pictures.png_writer import encode_picture

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from prunekit_runtime.predicting.classes import Classes

ROWS = 20  # classes a column
MAX_LETTERS = 40  # of a name
_FONT = 18  # px
_LINE = 28
_SWATCH = 20
_MARGIN = 12
_PAPER, _INK, _FRAME = (255, 255, 255), (20, 20, 20), (150, 150, 150)


def encode_legend(classes: Classes) -> bytes:
    """Return a PNG that lists the classes in columns, the same bytes for the same classes."""
    from PIL import Image, ImageDraw

    font = _font()
    texts = [f"{label}  {_short(name)}" for label, name in enumerate(classes.names)]
    column = _SWATCH + 3 * _MARGIN + max(round(font.getbbox(text)[2]) for text in texts)
    rows, columns = min(ROWS, len(texts)), -(-len(texts) // ROWS)
    sheet = Image.new("RGB", (columns * column + _MARGIN, rows * _LINE + 2 * _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for label, (text, colour) in enumerate(zip(texts, classes.palette, strict=True)):
        left, top = _MARGIN + label // ROWS * column, _MARGIN + label % ROWS * _LINE
        box = (left, top + (_LINE - _SWATCH) // 2, left + _SWATCH, top + (_LINE + _SWATCH) // 2)
        draw.rectangle(box, fill=colour, outline=_FRAME)
        draw.text((left + _SWATCH + _MARGIN, top + _LINE // 2), text, fill=_INK, font=font, anchor="lm")
    return encode_picture(np.array(sheet))


def _short(name: str) -> str:
    return name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 3]}..."


def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=_FONT)
