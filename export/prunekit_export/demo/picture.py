"""The demo's picture: image, truth and what each network makes of it, side by side.

H W an image's size, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunekit.run import replacing
from prunekit_runtime.predicting.drawing import Style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from prunekit.data.dataset import ClassMap, SegmentationDataset
    from prunekit_runtime.preprocessing import ByteArray, Preprocessing
    from prunekit_runtime.running.runner import Runner

MARGIN = 4  # px between panels
LINE = 16  # px for a line of PIL's built-in font
BACKGROUND = (255, 255, 255)
INK = (20, 20, 20)


def draw_predictions(
    path: Path,
    dataset: SegmentationDataset,
    contract: Preprocessing,
    runners: Mapping[str, Runner],
    indices: Sequence[int],
) -> None:
    """Write a PNG: a row for each sample, a column for the image, the truth and each runner, the classes below."""
    titles = ("image", "truth", *runners)
    rows = [_panels(dataset, index, contract, runners) for index in indices]
    sheet = _sheet(titles, rows, dataset.classes)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _panels(
    dataset: SegmentationDataset, index: int, contract: Preprocessing, runners: Mapping[str, Runner]
) -> list[ByteArray]:
    sample = dataset[index]
    image_HW3 = sample.image_3HW.permute(1, 2, 0).numpy()
    height, width = image_HW3.shape[:2]
    images_13hw = contract.prepare(image_HW3)
    predicted = (contract.restore_labels(runner.run(images_13hw), height, width) for runner in runners.values())
    style = Style(dataset.classes.palette)
    return [image_HW3, *map(style.colours, (sample.labels_HW.numpy(), *predicted))]


def _sheet(titles: Sequence[str], rows: Sequence[Sequence[ByteArray]], classes: ClassMap) -> Image:
    from PIL import Image, ImageDraw

    height, width = rows[0][0].shape[:2]
    sheet_width = len(titles) * (width + MARGIN) + MARGIN
    legend = _legend(classes, sheet_width)
    sheet_height = LINE + len(rows) * (height + MARGIN) + MARGIN + legend.height
    sheet = Image.new("RGB", (sheet_width, sheet_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * (width + MARGIN), 2), title, fill=INK)
    for number, panels in enumerate(rows):
        for column, panel_HW3 in enumerate(panels):
            corner = (MARGIN + column * (width + MARGIN), LINE + number * (height + MARGIN))
            sheet.paste(Image.fromarray(panel_HW3), corner)
    sheet.paste(legend, (0, sheet_height - legend.height))
    return sheet


def _legend(classes: ClassMap, width: int) -> Image:
    """Return the classes with their colours, in as many lines as the width asks for."""
    from PIL import Image, ImageDraw

    cell = 90  # px: a swatch and a class name of about ten letters
    columns = max(1, width // cell)
    legend = Image.new("RGB", (width, LINE * -(-len(classes) // columns) + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for index, (name, colour) in enumerate(zip(classes.names, classes.palette, strict=True)):
        left, top = MARGIN + index % columns * cell, index // columns * LINE
        draw.rectangle((left, top + 2, left + 10, top + 12), fill=colour, outline=INK)
        draw.text((left + 14, top + 1), name, fill=INK)
    return legend
