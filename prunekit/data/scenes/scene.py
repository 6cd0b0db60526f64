"""A whole scene: who stands where, drawn from far to near so that the near hides the far."""

from collections.abc import Callable, Iterator

from prunekit.data.scenes.canvas import SUPERSAMPLING, Camera, Canvas
from prunekit.data.scenes.dice import Dice
from prunekit.data.scenes.ground import Street, draw_street, paint_ground
from prunekit.data.scenes.houses import draw_plots, paint_hedge, paint_house, paint_skyline
from prunekit.data.scenes.labels import Label
from prunekit.data.scenes.light import Bytes, develop, draw_weather, paint_sky
from prunekit.data.scenes.things import (
    Painter,
    paint_bollard,
    paint_car,
    paint_lamp,
    paint_pedestrian,
    paint_sign,
    paint_tree,
)

Item = tuple[float, Callable[[], None]]
"""Distance of the far end [m], and the call that paints it."""


def render(height: int, width: int, dice: Dice) -> tuple[Bytes, Bytes]:
    """Draw and paint a scene.

    Returns:
        image uint8 [height, width, 3] and labels uint8 [height, width]
    """
    street, weather = draw_street(dice), draw_weather(dice)
    camera = _draw_camera(height * SUPERSAMPLING, width * SUPERSAMPLING, street, dice)
    canvas = Canvas(height * SUPERSAMPLING, width * SUPERSAMPLING, weather.horizon, weather.haze_m)
    paint_sky(canvas, weather, camera.horizon_px, dice)
    paint_skyline(canvas, camera, dice)
    paint_ground(canvas, camera, street, dice)
    items = [*_roadside(canvas, camera, street, dice), *_things(canvas, camera, street, dice)]
    for _, paint in sorted(items, key=lambda item: -item[0]):
        paint()
    if dice.chance(0.25):
        _paint_bonnet(canvas, dice)
    return develop(canvas, weather, dice)


def _draw_camera(height_px: int, width_px: int, street: Street, dice: Dice) -> Camera:
    return Camera(
        focal_px=max(width_px, 1.2 * height_px) * dice.between(0.6, 0.85),
        centre_px=width_px * dice.between(0.38, 0.62),
        horizon_px=height_px * dice.between(0.36, 0.52),
        x_m=street.half_width_m * dice.between(-0.1, 0.65),
        height_m=dice.between(1.2, 2.2),
        curve_per_m=dice.between(-0.004, 0.004) if dice.chance(0.5) else 0.0,
    )


def _roadside(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> Iterator[Item]:
    for side in (-1, 1):
        built = dice.between(0.55, 1.0)
        for plot in draw_plots(dice, street.house_line_m, side):
            paint = paint_house if dice.chance(built) else paint_hedge
            yield plot.far_m, _later(paint, canvas, camera, plot, dice)


def _things(canvas: Canvas, camera: Camera, street: Street, dice: Dice) -> Iterator[Item]:
    for painter, x_m, z_m in _places(street, dice):
        yield z_m, _later(painter, canvas, camera, x_m, z_m, dice)


def _places(street: Street, dice: Dice) -> Iterator[tuple[Painter, float, float]]:
    """Draw who stands where: yields the painter, x and z [m]."""
    yield from _rows(street, dice)
    yield from _traffic(street, dice)
    half, walk_m = street.half_width_m, street.pavement_m
    for _ in range(dice.count(0, 6)):
        x_m = dice.one_of([-1, 1]) * (half + dice.between(0.5, max(0.6, walk_m - 0.3)))
        yield paint_pedestrian, x_m, dice.between(4, 28)
    if dice.chance(0.2):
        yield paint_pedestrian, dice.between(-half, half), dice.between(7, 25)
    for _ in range(dice.count(1, 2) if dice.chance(0.55) else 0):
        yield paint_sign, dice.one_of([-1, 1]) * (half + dice.between(0.3, 0.7)), dice.between(5, 24)


def _rows(street: Street, dice: Dice) -> Iterator[tuple[Painter, float, float]]:
    """Draw what stands in rows along the kerb: trees, lamps, bollards."""
    for side in (-1, 1):
        kerb_m = side * (street.half_width_m + 0.6)
        for painter, probability, gap_m in (
            (paint_tree, 0.45, 9.0),
            (paint_lamp, 0.6, 18.0),
            (paint_bollard, 0.2, 2.2),
        ):
            if dice.chance(probability):
                step_m = gap_m * dice.between(0.8, 1.5)
                first_m, count = dice.between(4, 4 + gap_m), dice.count(2, 5)
                yield from ((painter, kerb_m, first_m + number * step_m) for number in range(count))


def _traffic(street: Street, dice: Dice) -> Iterator[tuple[Painter, float, float]]:
    """Draw cars: parked at the kerbs, ahead in the own lane, and coming."""
    half = street.half_width_m
    for side in (-1, 1):
        if half > 4.4 and dice.chance(0.5):
            z_m = dice.between(3, 14)
            for _ in range(dice.count(1, 5)):
                yield paint_car, side * (half - 1.05), z_m
                z_m += dice.between(5.4, 9)
    for lane in (-1, 1):
        if dice.chance(0.5):
            yield paint_car, lane * 0.35 * half, dice.between(7, 45)


def _paint_bonnet(canvas: Canvas, dice: Dice) -> None:
    """Paint the own car's bonnet, which counts as nothing: no class is asked of it."""
    colour = dice.one_of([(25.0, 25.0, 30.0), (120.0, 20.0, 25.0), (150.0, 152.0, 155.0)])
    centre = 0.5 * canvas.width_px, canvas.height_px * dice.between(1.02, 1.08)
    canvas.ellipse(centre, (0.6 * canvas.width_px, 0.13 * canvas.height_px), colour, Label.IGNORE)


def _later(paint: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: paint(*arguments)
