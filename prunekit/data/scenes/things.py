"""The things in a street: trees, poles, signs, cars, pedestrians; each painted at a place on the ground."""

from collections.abc import Callable
from typing import Final

from prunekit.data.scenes.canvas import SUPERSAMPLING, Camera, Canvas, Colour
from prunekit.data.scenes.dice import Dice, scaled
from prunekit.data.scenes.labels import Label

Painter = Callable[[Canvas, Camera, float, float, Dice], None]
"""Paints a thing standing at (x, z) [m]."""

_PAINTS: Final[tuple[Colour, ...]] = (
    (200, 200, 205),
    (35, 35, 40),
    (150, 20, 25),
    (30, 55, 120),
    (110, 115, 120),
    (225, 225, 220),
    (60, 80, 60),
    (190, 150, 40),
)
_CLOTHES: Final[tuple[Colour, ...]] = (
    (40, 40, 55),
    (150, 40, 40),
    (60, 80, 130),
    (200, 195, 185),
    (95, 85, 60),
    (50, 95, 70),
    (215, 130, 40),
    (120, 120, 125),
)


def paint_tree(canvas: Canvas, camera: Camera, x_m: float, z_m: float, dice: Dice) -> None:
    """Paint a street tree: trunk, and a crown of leaf clusters lit from above."""
    per_m, radius_m, crown_m = camera.per_metre(z_m), dice.between(1.2, 2.6), dice.between(3.4, 5.5)
    trunk_m = dice.between(0.12, 0.25)
    low, high = camera.point(x_m - trunk_m, 0, z_m), camera.point(x_m + trunk_m, crown_m, z_m)
    canvas.box(low, high, dice.near((75, 60, 48), 14), Label.TREE, z_m)
    green = dice.near(dice.one_of([(75, 105, 50), (95, 115, 55), (60, 85, 55), (140, 110, 50)]), 18)
    for number in range(8):
        up_m = radius_m * dice.between(-0.7, 0.9)
        centre = camera.point(x_m + radius_m * dice.between(-0.75, 0.75), crown_m + up_m, z_m)
        size_px = per_m * radius_m * dice.between(0.35, 0.7)
        leaves = scaled(green, 0.75 + 0.25 * up_m / radius_m + 0.05 * number)
        canvas.ellipse(centre, (size_px, 0.85 * size_px), leaves, Label.TREE, z_m)


def paint_lamp(canvas: Canvas, camera: Camera, x_m: float, z_m: float, dice: Dice) -> None:
    """Paint a street lamp or a plain mast, with an arm over the road."""
    grey = dice.near(dice.one_of([(90, 92, 95), (60, 62, 62), (140, 142, 145)]), 10)
    height_m, width_m = dice.between(5, 8), dice.between(0.09, 0.16)
    foot, top = camera.point(x_m - 0.5 * width_m, 0, z_m), camera.point(x_m + 0.5 * width_m, height_m, z_m)
    canvas.box(foot, top, grey, Label.POLE, z_m)
    if dice.chance(0.75):
        reach_m = -1.6 if x_m > 0 else 1.6
        arm = [camera.point(x_m, height_m, z_m), camera.point(x_m + reach_m, height_m + 0.35, z_m)]
        canvas.line(arm, 0.08 * camera.per_metre(z_m), grey, Label.POLE, z_m)
        per_m = camera.per_metre(z_m)
        canvas.ellipse(arm[1], (0.3 * per_m, 0.1 * per_m), dice.near((210, 205, 190), 20), Label.POLE, z_m)


def paint_bollard(canvas: Canvas, camera: Camera, x_m: float, z_m: float, dice: Dice) -> None:
    """Paint a bollard at the kerb."""
    low, high = camera.point(x_m - 0.08, 0, z_m), camera.point(x_m + 0.08, 0.95, z_m)
    canvas.box(low, high, dice.near((70, 70, 72), 25), Label.POLE, z_m)


def paint_sign(canvas: Canvas, camera: Camera, x_m: float, z_m: float, dice: Dice) -> None:
    """Paint a traffic sign or a traffic light on its pole."""
    foot, top = camera.point(x_m - 0.04, 0, z_m), camera.point(x_m + 0.04, 2.9, z_m)
    canvas.box(foot, top, dice.near((135, 137, 140), 15), Label.POLE, z_m)
    column, row = camera.point(x_m, 2.6, z_m)
    size_px = max(0.42 * camera.per_metre(z_m), 1.5 * SUPERSAMPLING)
    dice.one_of([_paint_disc, _paint_triangle, _paint_plate, _paint_lights])(canvas, (column, row), size_px, z_m, dice)


def paint_pedestrian(canvas: Canvas, camera: Camera, x_m: float, z_m: float, dice: Dice) -> None:
    """Paint somebody walking: legs, coat, arms, head; sometimes a child."""
    size_m = dice.between(1.55, 1.88) if dice.chance(0.85) else dice.between(1.05, 1.35)
    coat, trousers = dice.near(dice.one_of(_CLOTHES), 20), dice.near(dice.one_of(_CLOTHES[:5]), 20)
    skin, stride_m = (
        dice.near(dice.one_of([(215, 170, 145), (150, 105, 80), (95, 65, 50)]), 12),
        dice.between(0.0, 0.28),
    )
    hip_m, neck_m, wide_m = 0.48 * size_m, 0.83 * size_m, 0.14 * size_m
    for foot_m in (-stride_m, stride_m):
        legs = [(foot_m - 0.07, 0.0), (foot_m + 0.07, 0.0), (0.1, hip_m), (-0.1, hip_m)]
        points = [camera.point(x_m + across, up, z_m) for across, up in legs]
        canvas.polygon(points, scaled(trousers, 0.9 + 0.4 * (foot_m > 0)), Label.PEDESTRIAN, z_m)
    coat_m = hip_m - dice.between(0, 0.22) * size_m
    torso = [
        (-0.9 * wide_m, coat_m),
        (0.9 * wide_m, coat_m),
        (wide_m, neck_m - 0.06),
        (0, neck_m),
        (-wide_m, neck_m - 0.06),
    ]
    canvas.polygon([camera.point(x_m + across, up, z_m) for across, up in torso], coat, Label.PEDESTRIAN, z_m)
    for side in (-1, 1):
        shoulder, hand = (
            camera.point(x_m + side * wide_m, neck_m - 0.1, z_m),
            camera.point(x_m + side * (wide_m + 0.5 * stride_m), hip_m, z_m),
        )
        canvas.line([shoulder, hand], 0.09 * camera.per_metre(z_m), scaled(coat, 0.85), Label.PEDESTRIAN, z_m)
    head_px = 0.072 * size_m * camera.per_metre(z_m)
    centre = camera.point(x_m, 0.92 * size_m, z_m)
    canvas.ellipse(centre, (head_px, 1.25 * head_px), skin, Label.PEDESTRIAN, z_m)
    hair = centre[0], centre[1] - 0.6 * head_px
    canvas.ellipse(hair, (head_px, 0.7 * head_px), dice.near((60, 45, 35), 30), Label.PEDESTRIAN, z_m)


def paint_car(canvas: Canvas, camera: Camera, x_m: float, z_m: float, dice: Dice) -> None:
    """Paint a car or van: shadow, the side that the camera sees, and the end that faces it (z is that end)."""
    van = dice.chance(0.2)
    height_m, length_m, half_m = (2.1, 5.0, 0.95) if van else (dice.between(1.35, 1.6), dice.between(3.8, 4.7), 0.88)
    paint = dice.near(dice.one_of(_PAINTS), 18)
    belt_m, far_m = (0.6 if van else 0.58) * height_m, z_m + length_m
    shadow = [
        camera.point(x_m + across, 0, z)
        for across, z in ((-1.05, z_m - 0.2), (1.05, z_m - 0.2), (1.0, far_m), (-1.0, far_m))
    ]
    canvas.polygon(shadow, (32, 32, 36), None, z_m)
    seen_m = x_m - camera.x_m + camera.curve_per_m * z_m * z_m
    if abs(seen_m) > half_m:
        _paint_side(
            canvas, camera, x_m - half_m if seen_m > 0 else x_m + half_m, (z_m, far_m), (belt_m, height_m), paint
        )
    _paint_end(canvas, camera, (x_m, z_m, half_m), (belt_m, height_m), paint, dice)


def _paint_side(
    canvas: Canvas, camera: Camera, x_m: float, z_m: tuple[float, float], y_m: tuple[float, float], paint: Colour
) -> None:
    (near, far), (belt, top) = z_m, y_m
    length = far - near

    def shape(corners: list[tuple[float, float]], colour: Colour, label: Label | None) -> None:
        canvas.polygon([camera.point(x_m, up, near + share * length) for share, up in corners], colour, label, near)

    shape([(0, 0.25), (1, 0.25), (1, 0.9 * belt), (0.97, belt), (0, belt)], scaled(paint, 0.8), Label.CAR)
    shape([(0.02, belt), (0.72, belt), (0.58, top), (0.1, top)], scaled(paint, 0.75), Label.CAR)
    shape([(0.1, belt), (0.66, belt), (0.55, 0.94 * top), (0.15, 0.94 * top)], (45, 52, 60), None)
    for share in (0.17, 0.82):
        tyre = [
            (share - 0.075, 0.0),
            (share + 0.075, 0.0),
            (share + 0.09, 0.3),
            (share + 0.06, 0.58),
            (share - 0.06, 0.58),
            (share - 0.09, 0.3),
        ]
        shape(tyre, (25, 25, 27), Label.CAR)


def _paint_end(
    canvas: Canvas,
    camera: Camera,
    place: tuple[float, float, float],
    y_m: tuple[float, float],
    paint: Colour,
    dice: Dice,
) -> None:
    (x_m, z_m, half_m), (belt, top) = place, y_m

    def box(left: float, right: float, low: float, high: float, colour: Colour, label: Label | None = None) -> None:
        canvas.box(camera.point(x_m + left, low, z_m), camera.point(x_m + right, high, z_m), colour, label, z_m)

    for side in (-1, 1):
        box(side * half_m, side * (half_m - 0.24), 0.0, 0.4, (22, 22, 24), Label.CAR)
    cabin = [(-half_m + 0.05, belt), (half_m - 0.05, belt), (0.8 * half_m, top), (-0.8 * half_m, top)]
    pane = [(-0.85 * half_m, belt), (0.85 * half_m, belt), (0.7 * half_m, 0.94 * top), (-0.7 * half_m, 0.94 * top)]
    canvas.polygon([camera.point(x_m + across, up, z_m) for across, up in cabin], scaled(paint, 0.9), Label.CAR, z_m)
    canvas.polygon([camera.point(x_m + across, up, z_m) for across, up in pane], dice.near((55, 62, 72), 20), None, z_m)
    box(-half_m, half_m, 0.25, belt, paint, Label.CAR)
    box(-half_m, half_m, 0.25, 0.42, scaled(paint, 0.55))
    lights = dice.one_of([(190, 25, 25), (190, 25, 25), (245, 240, 215)])
    for side in (-1, 1):
        box(side * half_m, side * (half_m - 0.25), 0.72 * belt, 0.9 * belt, lights)
    box(-0.26, 0.26, 0.48, 0.6, dice.one_of([(225, 225, 215), (220, 190, 60)]))


def _paint_disc(canvas: Canvas, at: tuple[float, float], size_px: float, z_m: float, dice: Dice) -> None:
    rim, face = dice.one_of(
        [((190, 25, 30), (235, 235, 230)), ((35, 70, 160), (45, 85, 175)), ((190, 25, 30), (185, 30, 35))]
    )
    canvas.ellipse(at, (size_px, size_px), rim, Label.SIGN, z_m)
    canvas.ellipse(at, (0.65 * size_px, 0.65 * size_px), face, None, z_m)


def _paint_triangle(canvas: Canvas, at: tuple[float, float], size_px: float, z_m: float, dice: Dice) -> None:
    for scale, colour, label in ((1.15, (190, 25, 30), Label.SIGN), (0.65, dice.near((235, 230, 215), 15), None)):
        reach, (column, row) = scale * size_px, at
        points = [(column - reach, row + 0.7 * reach), (column + reach, row + 0.7 * reach), (column, row - reach)]
        canvas.polygon(points, colour, label, z_m)


def _paint_plate(canvas: Canvas, at: tuple[float, float], size_px: float, z_m: float, dice: Dice) -> None:
    wide, high = size_px * dice.between(0.8, 1.6), size_px * dice.between(0.7, 1.0)
    board = dice.one_of([(35, 70, 160), (30, 110, 70), (230, 190, 40), (225, 225, 225)])
    canvas.box((at[0] - wide, at[1] - high), (at[0] + wide, at[1] + high), board, Label.SIGN, z_m)
    canvas.box(
        (at[0] - 0.7 * wide, at[1] - 0.2 * high),
        (at[0] + 0.7 * wide, at[1] + 0.1 * high),
        scaled(board, 1.6),
        None,
        z_m,
    )


def _paint_lights(canvas: Canvas, at: tuple[float, float], size_px: float, z_m: float, dice: Dice) -> None:
    wide, high, lit = 0.5 * size_px, 1.2 * size_px, dice.count(0, 2)
    canvas.box((at[0] - wide, at[1] - high), (at[0] + wide, at[1] + high), (25, 27, 26), Label.SIGN, z_m)
    for lamp, colour in enumerate(((235, 40, 35), (240, 175, 40), (60, 220, 110))):
        centre = at[0], at[1] + (lamp - 1) * 0.75 * size_px
        canvas.ellipse(
            centre, (0.3 * size_px, 0.3 * size_px), colour if lamp == lit else scaled(colour, 0.25), None, z_m
        )
