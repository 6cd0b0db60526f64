"""Images of 16 bits a channel, brought to the 8 that networks see by one rule: 255 * value / white, rounded.

Shapes: H height, W width, C channels.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from prunekit.errors import DataError
from prunekit_runtime.pictures.png import read_deep_png

FULL: Final = (1 << 16) - 1
_DARK: Final = 1 << 12
"""Below a sixteenth of the range an image more likely has its white elsewhere: cameras give 10 or 12 bits."""
_GREY_MODES: Final = ("I;16", "I;16B", "I;16L", "I;16N")


def is_cut(image: Image.Image) -> bool:
    """Tell whether Pillow keeps the upper 8 bits alone of such an image, or cannot tell what is transparent in it."""
    return image.format == "PNG" and (len(image.getbands()) > 1 or "transparency" in image.info)


def deep_samples(path: Path, image: Image.Image) -> npt.NDArray[np.uint16]:
    """Return the stored numbers of an image of 16 bits a channel, uint16 [H, W, C]; as on disk where it `is_cut`.

    Raises:
        DataError: it is transparent, or of a kind whose 16 bits cannot be had.
    """
    if is_cut(image):
        try:
            return read_deep_png(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path} {error}") from None
    if image.mode in _GREY_MODES or (image.format == "PNG" and image.mode == "I"):
        return np.asarray(image).astype(np.uint16)[..., None]
    raise DataError(
        f"{path} has 16 bits a colour channel as {image.format} of kind {image.mode}, of which 8 are read. "
        "Convert it to a PNG of 16 bits, or to 8-bit RGB."
    )


def as_8_bits(samples_HWC: npt.NDArray[np.uint16], path: Path, white_level: int) -> npt.NDArray[np.uint8]:
    """Return RGB, uint8 [H, W, 3].

    Args:
        samples_HWC: one channel or three.
        path: the file, for messages.
        white_level: the number that is white; 0, where nobody said so, takes 65535.

    Raises:
        DataError: a number lies above the white, which would be clipped; or nobody named the white, and all numbers lie
            far below 65535.
    """
    most, white = int(samples_HWC.max()), white_level or FULL
    if most > white:
        raise DataError(
            f"{path} holds {most}, above data.white_level {white}, and would be clipped. Raise it: "
            f"--set data.white_level={_next_white(most)}"
        )
    if not white_level and 0 < most < _DARK:
        raise DataError(
            f"{path} has 16 bits and holds at most {most} of {FULL}, so it would be nearly black. Convert it to 8-bit "
            f"RGB or, in a data set, name its white: --set data.white_level={_next_white(most)} ; or {FULL} if it is "
            "so dark"
        )
    scaled_HWC = (samples_HWC.astype(np.uint32) * 255 + white // 2) // white
    return np.array(np.broadcast_to(scaled_HWC.astype(np.uint8), (*scaled_HWC.shape[:2], 3)))


def _next_white(most: int) -> int:
    """Return the largest number of as many bits."""
    return (1 << most.bit_length()) - 1
