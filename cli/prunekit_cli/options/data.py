"""Options that say which data and at which size, shared by the commands that read data."""

import re
from typing import Annotated, Any, Final

import typer

from prunekit_cli.options.common import MAX_SIDE, OptionError

MIN_SIDE: Final = 32  # px, as in the recipe
_SIZE: Final = re.compile(r"\s*([0-9]{1,40})\s*[xX\u00d7]\s*([0-9]{1,40})\s*", re.ASCII)

ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Class list of the folder data set: TOML, text or CSV.",
        show_default="classes.toml, .txt or .csv in --root",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="HxW",
        help="Size of the images as the network sees them, height first, such as 360x480.",
        show_default="128x192",
    ),
]
IgnoreOption = Annotated[
    str | None,
    typer.Option(
        "--ignore-index",
        metavar="N",
        help="Number in the masks that does not count, or several: 0,255.",
        show_default="as the class list says, or 255",
    ),
]

ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="PATTERN",
        help="Where images lie below --root, with {split} and {name}, see docs/data.md. Goes with --masks.",
        show_default="train/images, val/images, or images",
    ),
]
MasksOption = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="PATTERN",
        help="Where their masks lie, with {split} and {name}.",
        show_default="train/masks, val/masks, or masks",
    ),
]


def size_settings(text: str | None) -> dict[str, int]:
    """Return what a --size option sets.

    Raises:
        OptionError: it is not HEIGHTxWIDTH, or out of range.
    """
    if text is None:
        return {}
    height, width = parse_sides(text, "--size", least=MIN_SIDE)
    return {"data.height": height, "data.width": width}


def parse_sides(text: str, option: str, *, least: int) -> tuple[int, int]:
    """Return the height and the width that an option gives as HEIGHTxWIDTH [px].

    Raises:
        OptionError: it has another form, or a side is out of range.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OptionError(f"{option} takes HEIGHTxWIDTH in pixels, got {text!r}. Write for example {option} 360x480")
    height, width = int(match[1]), int(match[2])
    if not all(least <= side <= MAX_SIDE for side in (height, width)):
        raise OptionError(
            f"{option} takes a height and a width of {least} to {MAX_SIDE} pixels, got {height}x{width}. "
            f"Write for example {option} 360x480"
        )
    return height, width


def mask_settings(
    classes: str | None, ignore_index: str | None, images: str | None, masks: str | None
) -> dict[str, Any]:
    """Return what the options about a folder of images and masks set; None for what was not given."""
    return {
        "data.classes": classes,
        "data.ignore_index": ignore_index,
        "data.images": images,
        "data.masks": masks,
    }
