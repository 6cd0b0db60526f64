"""What stands along a street: houses with windows, hedges, and the skyline at its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prunekit.data.scenes.canvas import Camera, Canvas, Colour, Point
from prunekit.data.scenes.dice import Dice, scaled
from prunekit.data.scenes.labels import Label

_WALLS: Final[tuple[Colour, ...]] = (
    (165, 90, 70),
    (190, 165, 130),
    (205, 200, 190),
    (120, 115, 112),
    (150, 130, 110),
    (110, 80, 70),
    (95, 105, 120),
    (215, 190, 140),
)
_MIN_FLOOR_PX: Final = 7.0  # below, windows are a blur and the wall is drawn plain


@dataclass(frozen=True)
class Plot:
    """A stretch along one side of the street; `side` is -1 left, 1 right."""

    side: int
    line_m: float
    near_m: float
    far_m: float


@dataclass(frozen=True)
class _Wall:
    """A house front as a rectangle in the world: along z beside the street, along x facing the camera."""

    start: tuple[float, float]
    end: tuple[float, float]
    height_m: float

    def point(self, camera: Camera, along: float, y_m: float) -> Point:
        """Project the point at a share of the wall's length and a height."""
        x_m = self.start[0] + along * (self.end[0] - self.start[0])
        z_m = self.start[1] + along * (self.end[1] - self.start[1])
        return camera.point(x_m, y_m, z_m)

    def pane(self, camera: Camera, along: tuple[float, float], y_m: tuple[float, float]) -> list[Point]:
        """Return the corners of a rectangle on the wall."""
        return [
            self.point(camera, along[0], y_m[0]),
            self.point(camera, along[1], y_m[0]),
            self.point(camera, along[1], y_m[1]),
            self.point(camera, along[0], y_m[1]),
        ]


def draw_plots(dice: Dice, line_m: float, side: int) -> Iterator[Plot]:
    """Divide one side of the street into plots, from near to far."""
    z_m = dice.between(-6, 2)
    while z_m < 90:
        end_m = z_m + dice.between(7, 18)
        if end_m > 2.5:
            yield Plot(side, line_m + dice.between(0, 1.2), max(z_m, 1.5), end_m)
        z_m = end_m + (dice.between(2, 6) if dice.chance(0.25) else 0.0)


def paint_house(canvas: Canvas, camera: Camera, plot: Plot, dice: Dice) -> None:
    """Paint a house: the front along the street, the end wall that faces the camera, windows, shop, roof."""
    colour = dice.near(dice.one_of(_WALLS), 22)
    floor_m = dice.between(2.7, 3.4)
    height_m = floor_m * dice.count(2, 6) + dice.between(0.2, 1)
    inner_m, outer_m = plot.side * plot.line_m, plot.side * (plot.line_m + 9)
    end_wall = _Wall((outer_m, plot.near_m), (inner_m, plot.near_m), height_m)
    front = _Wall((inner_m, plot.near_m), (inner_m, plot.far_m), height_m)
    middle_m = 0.5 * (plot.near_m + plot.far_m)
    if dice.chance(0.5):
        _paint_roof(canvas, camera, front, end_wall, dice)
    lit = dice.between(0.7, 1.15)
    canvas.polygon(end_wall.pane(camera, (0, 1), (0, height_m)), scaled(colour, 1.7 - lit), Label.BUILDING, plot.near_m)
    canvas.polygon(front.pane(camera, (0, 1), (0, height_m)), scaled(colour, lit), Label.BUILDING, middle_m)
    _paint_shop(canvas, camera, front, dice, middle_m)
    _paint_windows(canvas, camera, front, floor_m, plot.far_m - plot.near_m, dice)


def paint_hedge(canvas: Canvas, camera: Camera, plot: Plot, dice: Dice) -> None:
    """Paint a hedge with an uneven top, and bushes behind it."""
    green = dice.near((70, 95, 50), 22)
    height_m, x_m = dice.between(0.8, 2.2), plot.side * plot.line_m
    for _ in range(dice.count(3, 7)):
        z_m = dice.between(plot.near_m + 1, plot.far_m + 1)
        radius_px = dice.between(0.8, 2.2) * camera.per_metre(z_m)
        centre = camera.point(x_m + plot.side * dice.between(1, 3), dice.between(0.5, 2.6), z_m)
        canvas.ellipse(centre, (radius_px, 0.8 * radius_px), dice.tone(green, 0.3), Label.TREE, z_m)
    wall = _Wall((x_m, plot.near_m), (x_m, plot.far_m), height_m)
    middle_m = 0.5 * (plot.near_m + plot.far_m)
    canvas.polygon(wall.pane(camera, (0, 1), (0, height_m)), green, Label.TREE, middle_m)


def paint_skyline(canvas: Canvas, camera: Camera, dice: Dice) -> None:
    """Paint the far end of the world: blocks of houses and tree tops above the horizon."""
    column, per_m = -10.0, camera.per_metre(130)
    while column < canvas.width_px:
        width_px, top_px = per_m * dice.between(6, 25), camera.horizon_px - per_m * dice.between(3, 22)
        if dice.chance(0.6):
            low, high = (column, camera.horizon_px + 1), (column + width_px, top_px)
            canvas.box(low, high, dice.near(dice.one_of(_WALLS), 20), Label.BUILDING, 110)
        else:
            centre, radii = (column + 0.5 * width_px, camera.horizon_px), (0.7 * width_px, per_m * dice.between(4, 11))
            canvas.ellipse(centre, radii, dice.near((80, 100, 70), 15), Label.TREE, 100)
        column += 0.9 * width_px


def _paint_roof(canvas: Canvas, camera: Camera, front: _Wall, end_wall: _Wall, dice: Dice) -> None:
    slates, rise_m = dice.near(dice.one_of([(110, 65, 50), (75, 75, 80), (95, 80, 70)]), 15), dice.between(1.5, 3.5)
    eaves = front.pane(camera, (0, 1), (front.height_m, front.height_m))[:2]
    depth_m = end_wall.start[0] - front.start[0]
    ridge = [
        camera.point(front.start[0] + 0.5 * depth_m, front.height_m + rise_m, z_m)
        for z_m in (front.end[1], front.start[1])
    ]
    canvas.polygon([*eaves, *ridge], slates, Label.BUILDING, front.start[1])
    gable = [*end_wall.pane(camera, (0, 1), (front.height_m, front.height_m))[:2], ridge[1]]
    canvas.polygon(gable, scaled(slates, 0.8), Label.BUILDING, front.start[1])


def _paint_shop(canvas: Canvas, camera: Camera, front: _Wall, dice: Dice, z_m: float) -> None:
    if dice.chance(0.5):
        glass = dice.near((60, 65, 75), 35)
        canvas.polygon(front.pane(camera, (0.06, 0.94), (0.4, 2.3)), glass, None, z_m)
        if dice.chance(0.6):  # a fascia in any colour: signs are round or on poles, this is building
            fascia = (dice.between(30, 240), dice.between(30, 240), dice.between(30, 240))
            canvas.polygon(front.pane(camera, (0.04, 0.96), (2.35, 2.8)), fascia, None, z_m)
    at = dice.between(0.1, 0.85)
    canvas.polygon(front.pane(camera, (at, at + 0.08), (0, 2.1)), dice.near((70, 50, 40), 40), None, z_m)


def _paint_windows(canvas: Canvas, camera: Camera, front: _Wall, floor_m: float, length_m: float, dice: Dice) -> None:
    middle_m = 0.5 * (front.start[1] + front.end[1])
    if floor_m * camera.per_metre(middle_m) < _MIN_FLOOR_PX:
        return
    glass, share = dice.near((70, 80, 95), 30), dice.between(0.4, 0.65)
    columns = max(1, min(4, round(length_m / 3.2)))
    for floor in range(1, min(4, round(front.height_m / floor_m))):
        low_m = floor * floor_m + 0.8
        for column in range(columns):
            along = (column + 0.5 - 0.5 * share) / columns, (column + 0.5 + 0.5 * share) / columns
            canvas.polygon(front.pane(camera, along, (low_m, low_m + 1.5)), dice.tone(glass, 0.35), None, middle_m)
