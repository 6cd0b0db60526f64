"""Draw labels: as colours, over the picture, as contours on it, beside it.

H height, W width, K classes.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from prunekit_runtime.classes import Colour
from prunekit_runtime.errors import PictureUsageError
from prunekit_runtime.pictures.png_writer import encode_mask, encode_picture
from prunekit_runtime.preprocessing import ByteArray

KINDS = ("mask", "overlay", "contour", "side-by-side")
GAP = 4  # px between the two of a pair
_PAPER = 255
_INK = 20
_PIXELS_A_LINE = 160  # the shorter side of a picture in which a contour is one pixel wide on either side


@dataclasses.dataclass(frozen=True)
class Style:
    """How labels are drawn."""

    palette: tuple[Colour, ...]
    alpha: float = 0.5
    """How much of an overlay is colour, 0 to 1; the rest is the picture."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise PictureUsageError(
                f"The share of the colour in an overlay cannot be {self.alpha}. Give --alpha 0 to 1."
            )

    def colours(self, labels_HW: ByteArray) -> ByteArray:
        """Return labels as colours, uint8 (H, W, 3); a label of no class is black."""
        colours_256 = np.zeros((256, 3), dtype=np.uint8)
        colours_256[: len(self.palette)] = self.palette
        return np.take(colours_256, labels_HW, axis=0)


def draw(kind: str, image_HW3: ByteArray, labels_HW: ByteArray, style: Style) -> ByteArray:
    """Return a drawing of one of `KINDS` but the mask, RGB, uint8 (H, W, 3); side by side is wider."""
    if kind == "overlay":
        return overlay(image_HW3, style.colours(labels_HW), style.alpha)
    if kind == "contour":
        return contours(image_HW3, labels_HW, style)
    return side_by_side(image_HW3, style.colours(labels_HW))


def encode(kind: str, image_HW3: ByteArray, labels_HW: ByteArray, style: Style) -> bytes:
    """Return one of `KINDS` as a PNG file."""
    if kind == "mask":
        return encode_mask(labels_HW, style.palette)
    return encode_picture(draw(kind, image_HW3, labels_HW, style))


def overlay(image_HW3: ByteArray, colours_HW3: ByteArray, alpha: float) -> ByteArray:
    """Return the picture with `alpha` parts of colour, rounded to the nearest number."""
    share = np.float32(alpha)
    mixed = image_HW3.astype(np.float32) * (np.float32(1) - share) + colours_HW3.astype(np.float32) * share
    return np.rint(mixed).astype(np.uint8)


def contours(image_HW3: ByteArray, labels_HW: ByteArray, style: Style) -> ByteArray:
    """Return the picture with a line along each border, on either side in the colour of the class there.

    Lines widen with the picture; from two pixels on, a dark line parts the two colours.
    """
    width = max(1, round(min(labels_HW.shape) / _PIXELS_A_LINE))
    drawn = image_HW3.copy()
    near_HW = _near_border(labels_HW, width)
    drawn[near_HW] = style.colours(labels_HW[near_HW])
    if width > 1:
        drawn[_near_border(labels_HW, 1)] = _INK
    return drawn


def _near_border(labels_HW: ByteArray, distance: int) -> npt.NDArray[np.bool_]:
    """Tell of each pixel whether another class lies within `distance` pixels in its row or column."""
    near_HW = np.zeros(labels_HW.shape, dtype=bool)
    for near, labels in ((near_HW, labels_HW), (near_HW.T, labels_HW.T)):
        for step in range(1, distance + 1):
            differs = labels[step:] != labels[:-step]
            near[step:] |= differs
            near[:-step] |= differs
    return near_HW


def side_by_side(image_HW3: ByteArray, colours_HW3: ByteArray) -> ByteArray:
    """Return the picture, a gap, and the labels as colours."""
    gap = np.full((len(image_HW3), GAP, 3), _PAPER, dtype=np.uint8)
    return np.concatenate([image_HW3, gap, colours_HW3], axis=1)
