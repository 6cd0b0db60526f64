"""A camera that projects metres to pixels, and a canvas that draws colour and label at once.

World axes: x to the right of the road's middle, y up from the ground, z ahead of the camera, all in metres.
Pixels are those of the canvas, which is `SUPERSAMPLING` times the scene's size so that edges come out soft.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageDraw

from prunekit.data.scenes.labels import Label

SUPERSAMPLING: Final = 2
NEAR_M: Final = 1.5  # nearer points are moved here: what is beside the camera fills the border of the picture

Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and how it looks."""

    focal_px: float
    centre_px: float
    horizon_px: float
    x_m: float
    height_m: float
    curve_per_m: float
    """Sideways shift of the street, in metres a square metre of distance."""

    def point(self, x_m: float, y_m: float, z_m: float) -> Point:
        """Project a point of the world to (column, row) [px]."""
        depth_m = max(z_m, NEAR_M)
        per_m = self.focal_px / depth_m
        column = self.centre_px + per_m * (x_m - self.x_m + self.curve_per_m * depth_m * depth_m)
        return column, self.horizon_px + per_m * (self.height_m - y_m)

    def per_metre(self, z_m: float) -> float:
        """Return how many pixels a metre takes at a distance."""
        return self.focal_px / max(z_m, NEAR_M)


class Canvas:
    """A picture and its label map, drawn together; haze takes colours towards the sky with distance."""

    def __init__(self, height_px: int, width_px: int, haze: Colour, haze_m: float) -> None:
        size = (width_px, height_px)
        self.height_px, self.width_px = height_px, width_px
        self.image = Image.new("RGB", size)
        self.labels = Image.new("L", size, Label.SKY)
        self._haze, self._haze_m = haze, haze_m
        self._colour = ImageDraw.Draw(self.image)
        self._label = ImageDraw.Draw(self.labels)

    def polygon(self, points: Sequence[Point], colour: Colour, label: Label | None, z_m: float = 0.0) -> None:
        """Fill a polygon; without a label it is detail on what is already there."""
        self._colour.polygon(points, fill=self._seen(colour, z_m))
        if label is not None:
            self._label.polygon(points, fill=int(label))

    def ellipse(self, centre: Point, radii: Point, colour: Colour, label: Label | None, z_m: float = 0.0) -> None:
        """Fill an ellipse with upright axes."""
        across, up = max(radii[0], 0.5), max(radii[1], 0.5)
        box = (centre[0] - across, centre[1] - up, centre[0] + across, centre[1] + up)
        self._colour.ellipse(box, fill=self._seen(colour, z_m))
        if label is not None:
            self._label.ellipse(box, fill=int(label))

    def box(self, low: Point, high: Point, colour: Colour, label: Label | None, z_m: float = 0.0) -> None:
        """Fill an upright rectangle between two opposite corners, at least one pixel of the scene wide."""
        left, right = sorted((low[0], high[0]))
        top, bottom = sorted((low[1], high[1]))
        right = max(right, left + SUPERSAMPLING - 1)
        self._colour.rectangle((left, top, right, bottom), fill=self._seen(colour, z_m))
        if label is not None:
            self._label.rectangle((left, top, right, bottom), fill=int(label))

    def line(self, points: Sequence[Point], width_px: float, colour: Colour, label: Label, z_m: float = 0.0) -> None:
        """Draw a line, at least one pixel of the scene wide."""
        width = max(SUPERSAMPLING, round(width_px))
        self._colour.line(points, fill=self._seen(colour, z_m), width=width)
        self._label.line(points, fill=int(label), width=width)

    def shade(self, polygons: Sequence[Sequence[Point]], strength: float) -> None:
        """Darken what has been drawn so far inside the polygons, as a shadow does."""
        light = Image.new("L", self.image.size, 255)
        pen = ImageDraw.Draw(light)
        for points in polygons:
            pen.polygon(points, fill=round(255 * (1 - strength)))
        self.image.paste(ImageChops.multiply(self.image, Image.merge("RGB", (light, light, light))))

    def _seen(self, colour: Colour, z_m: float) -> tuple[int, int, int]:
        clear = self._haze_m / (self._haze_m + z_m)
        veil, haze = 1 - clear, self._haze
        return (
            int(clear * colour[0] + veil * haze[0]),
            int(clear * colour[1] + veil * haze[1]),
            int(clear * colour[2] + veil * haze[2]),
        )
