"""The contact sheet: image, mask and both together of a few samples that show every class, and a legend.

Shapes: H height, W width, of an image and, in small letters, of a panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from prunekit.data.checking.choice import choose
from prunekit.pictures.legend import draw_legend, short
from prunekit.pictures.lettering import lettering
from prunekit.run import replacing
from prunekit_runtime.predicting.drawing import Style, overlay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prunekit.data.checking.check import Checked
    from prunekit.data.dataset import ClassMap, Sample

PANEL: Final = 256  # px, width of a panel
GAP: Final = 4
CAPTION: Final = 18
_FONT: Final = 12
_MARGIN: Final = 12
_ALPHA: Final = 0.55
_ONE_COLUMN: Final = 3  # samples that are drawn below each other; more get two columns
_CAPTION_LETTERS: Final = 100
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_BLACK: Final = (0, 0, 0)


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows."""

    samples: int
    escaped: tuple[str, ...]
    """Class names that are written with escapes, since no font has their letters."""


def draw_sheet(path: Path, checked: Checked) -> Sheet:
    """Write a contact sheet as PNG, replacing an old file; none where no sample is without faults.

    Raises:
        OSError: the file cannot be written.
    """
    chosen = choose(checked.seen, len(checked.classes))
    if not chosen:
        return Sheet(0, ())
    tiles: list[Image.Image] = []
    for choice in chosen:
        sample = checked.open_sample(choice.split, choice.index)
        names = ", ".join(short(checked.classes.names[label]) for label in choice.shows)
        tiles.append(_tile(sample, f"{choice.split}  {short(sample.name)}  ({names})", checked.classes))
    tiles.sort(key=lambda tile: tile.height)  # beside each other are those of like height
    sheet = _sheet(tiles, checked.classes)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    escaped = tuple(name for name in checked.classes.names if not lettering(short(name), _FONT).whole)
    return Sheet(len(tiles), escaped)


def _ignored_colour(classes: ClassMap) -> tuple[int, int, int]:
    return _PAPER if _BLACK in classes.palette else _BLACK


def _tile(sample: Sample, caption: str, classes: ClassMap) -> Image.Image:
    """Return a caption and, below, the image, the labels as colours, and both."""
    height, width = sample.labels_HW.shape
    size = (PANEL, max(1, min(2 * PANEL, round(PANEL * height / width))))
    image_hw3 = np.array(Image.fromarray(sample.image_3HW.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.BOX))
    labels_hw = np.array(Image.fromarray(sample.labels_HW.numpy()).resize(size, Image.Resampling.NEAREST))
    colours_hw3 = Style(classes.palette).colours(labels_hw)
    ignored_hw1 = (labels_hw == classes.ignore_index)[..., None]
    mask_hw3 = np.where(ignored_hw1, np.array(_ignored_colour(classes), dtype=np.uint8), colours_hw3)
    both_hw3 = np.where(ignored_hw1, image_hw3, overlay(image_hw3, colours_hw3, _ALPHA))
    tile = Image.new("RGB", (3 * PANEL + 2 * GAP, CAPTION + size[1]), _PAPER)
    text = lettering(caption[:_CAPTION_LETTERS], _FONT)
    ImageDraw.Draw(tile).text((0, CAPTION // 2), text.text, fill=_INK, font=text.font, anchor="lm")
    for place, panel_hw3 in enumerate((image_hw3, mask_hw3, both_hw3)):
        tile.paste(Image.fromarray(panel_hw3), (place * (PANEL + GAP), CAPTION))
    return tile


def _sheet(tiles: Sequence[Image.Image], classes: ClassMap) -> Image.Image:
    columns = 1 if len(tiles) <= _ONE_COLUMN else 2
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    width = columns * (tiles[0].width + _MARGIN) + _MARGIN
    legend = _legend(classes, width)
    height = sum(heights) + len(rows) * _MARGIN + legend.height
    sheet = Image.new("RGB", (max(width, legend.width), height), _PAPER)
    top = _MARGIN // 2
    for row, row_height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (_MARGIN + column * (tile.width + _MARGIN), top))
        top += row_height + _MARGIN
    sheet.paste(legend, (0, height - legend.height))
    return sheet


def _legend(classes: ClassMap, width: int) -> Image.Image:
    """Return the classes and the colour of ignored pixels, in the fewest rows that fit into a width."""
    names = [f"{label}  {short(name)}" for label, name in enumerate(classes.names)]
    entries = [*zip(names, classes.palette, strict=True), ("not counted", _ignored_colour(classes))]
    for rows in range(1, len(entries)):
        legend = draw_legend(entries, rows)
        if legend.width <= width:
            return legend
    return draw_legend(entries, len(entries))
