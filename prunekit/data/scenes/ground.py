"""The ground of a street: pavement, road, kerbs, lane markings, and the shadows that lie on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from prunekit.data.scenes.canvas import NEAR_M, Camera, Canvas, Colour, Point
from prunekit.data.scenes.dice import Dice, scaled
from prunekit.data.scenes.labels import Label

FAR_M: Final = 140.0
# Distances at which the edges of the road are projected: closer where the picture shows more.
_STATIONS_M: Final = (NEAR_M, 3.0, 5.0, 8.0, 12.0, 18.0, 26.0, 38.0, 55.0, 80.0, FAR_M)


@dataclass(frozen=True)
class Street:
    """The measures and surfaces of a street."""

    half_width_m: float
    pavement_m: float
    road: Colour
    pavement: Colour
    marking: Colour

    @property
    def house_line_m(self) -> float:
        """Distance from the road's middle to the houses."""
        return self.half_width_m + self.pavement_m


def draw_street(dice: Dice) -> Street:
    """Draw the measures and surfaces of a street."""
    grey = dice.between(70, 125)
    worn = dice.between(150, 245)
    return Street(
        half_width_m=dice.between(3.2, 6.0),
        pavement_m=dice.between(1.8, 4.5),
        road=dice.near((grey, grey, grey + 4), 8),
        pavement=dice.near(dice.one_of([(150, 145, 140), (165, 150, 130), (120, 120, 122), (150, 120, 108)]), 15),
        marking=dice.one_of([(worn, worn, worn), (worn, worn, worn), (worn, 0.8 * worn, 0.3 * worn)]),
    )


def paint_ground(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> None:
    """Paint everything that lies flat, from the horizon to the bottom of the picture."""
    bottom = float(canvas.height_px)
    everywhere = [
        (0.0, camera.horizon_px),
        (canvas.width_px, camera.horizon_px),
        (canvas.width_px, bottom),
        (0.0, bottom),
    ]
    canvas.polygon(everywhere, street.pavement, Label.PAVEMENT, 25)
    for near_m, far_m in reversed(list(pairwise(_STATIONS_M))):
        _paint_stretch(canvas, camera, street, near_m, far_m)
    _paint_slabs(canvas, camera, street)
    _paint_wear(canvas, camera, street, dice)
    _paint_markings(canvas, camera, street, dice)
    _paint_shadows(canvas, camera, street, dice)


def strip(camera: Camera, left_m: float, right_m: float, near_m: float, far_m: float) -> list[Point]:
    """Return the corners of a rectangle on the ground."""
    return [
        camera.point(left_m, 0, near_m),
        camera.point(left_m, 0, far_m),
        camera.point(right_m, 0, far_m),
        camera.point(right_m, 0, near_m),
    ]


def _paint_stretch(canvas: Canvas, camera: Camera, street: Street, near_m: float, far_m: float) -> None:
    half, middle_m = street.half_width_m, 0.5 * (near_m + far_m)
    wide = street.house_line_m
    canvas.polygon(strip(camera, -wide, wide, near_m, far_m), street.pavement, Label.PAVEMENT, middle_m)
    kerb = scaled(street.pavement, 1.18)
    canvas.polygon(strip(camera, -half - 0.25, half + 0.25, near_m, far_m), kerb, Label.PAVEMENT, middle_m)
    canvas.polygon(strip(camera, -half, half, near_m, far_m), street.road, Label.ROAD, middle_m)
    gutter = scaled(street.road, 0.8)
    for side in (-1, 1):
        edge = strip(camera, side * half, side * (half - 0.25), near_m, far_m)
        canvas.polygon(edge, gutter, None, middle_m)


def _paint_slabs(canvas: Canvas, camera: Camera, street: Street) -> None:
    joint = scaled(street.pavement, 0.86)
    for z_m in (4.0, 5.0, 6.2, 7.6, 9.3, 11.5, 14.0):
        for side in (-1, 1):
            inner_m, outer_m = side * (street.half_width_m + 0.3), side * street.house_line_m
            canvas.polygon(strip(camera, inner_m, outer_m, z_m, 1.012 * z_m), joint, None, z_m)


def _paint_wear(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> None:
    """Paint patches, tyre tracks and manholes: road that does not look like the rest of the road."""
    half = street.half_width_m
    for _ in range(dice.count(0, 4)):
        x_m, z_m = dice.between(-half, half - 1), dice.between(4, 30)
        patch = strip(camera, x_m, min(half, x_m + dice.between(0.6, 2.5)), z_m, z_m + dice.between(1, 8))
        canvas.polygon(patch, dice.tone(street.road, 0.2), None, z_m)
    for _ in range(dice.count(0, 2)):
        z_m = dice.between(4, 18)
        centre, per_m = camera.point(dice.between(-half + 0.5, half - 0.5), 0, z_m), camera.per_metre(z_m)
        canvas.ellipse(
            centre, (0.35 * per_m, 0.35 * per_m * camera.height_m / z_m), scaled(street.road, 0.65), None, z_m
        )


def _paint_markings(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> None:
    if dice.chance(0.85):
        _paint_dashes(canvas, camera, street, dice, x_m=dice.between(-0.3, 0.3))
    if dice.chance(0.5):
        for side in (-1, 1):
            _paint_line(canvas, camera, street, side * (street.half_width_m - 0.5))
    if dice.chance(0.3):
        _paint_crossing(canvas, camera, street, dice)


def _paint_dashes(canvas: Canvas, camera: Camera, street: Street, dice: Dice, x_m: float) -> None:
    dash_m, gap_m = dice.between(2, 4), dice.one_of([0.0, 3.0, 5.0])
    z_m = dice.between(1.6, 5)
    while z_m < 75:
        end_m = z_m + dash_m
        canvas.polygon(strip(camera, x_m - 0.09, x_m + 0.09, z_m, end_m), street.marking, Label.MARKING, z_m)
        z_m = end_m + gap_m


def _paint_line(canvas: Canvas, camera: Camera, street: Street, x_m: float) -> None:
    for near_m, far_m in pairwise(_STATIONS_M[:-1]):
        canvas.polygon(strip(camera, x_m - 0.07, x_m + 0.07, near_m, far_m), street.marking, Label.MARKING, near_m)


def _paint_crossing(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> None:
    z_m, depth_m = dice.between(6, 22), dice.between(2.2, 3.5)
    x_m = -street.half_width_m + 0.4
    while x_m < street.half_width_m - 0.6:
        canvas.polygon(strip(camera, x_m, x_m + 0.5, z_m, z_m + depth_m), street.marking, Label.MARKING, z_m)
        x_m += 1.05


def _paint_shadows(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> None:
    """Shade one side of the street, with notches as house fronts make them."""
    if dice.chance(0.45):
        return
    side, polygons = dice.one_of([-1, 1]), list[Sequence[Point]]()
    z_m = NEAR_M
    while z_m < 60:
        end_m = z_m + dice.between(3, 12)
        inner_m = side * dice.between(-0.8, 1.0) * street.half_width_m
        polygons.append(strip(camera, side * 30, inner_m, z_m, end_m))
        z_m = end_m + (dice.between(1, 5) if dice.chance(0.3) else 0.0)
    canvas.shade(polygons, dice.between(0.2, 0.55))
