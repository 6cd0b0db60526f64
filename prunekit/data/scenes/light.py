"""Sky before the scene; texture, light and sensor noise after it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from prunekit.data.scenes.canvas import SUPERSAMPLING, Canvas, Colour
from prunekit.data.scenes.dice import Dice, scaled
from prunekit.data.scenes.labels import Label

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Roughness of each class's surface [levels]: leaves most, paint and sky least.
_ROUGHNESS: Final = {
    Label.SKY: 1.5,
    Label.BUILDING: 7.0,
    Label.ROAD: 6.0,
    Label.PAVEMENT: 8.0,
    Label.MARKING: 6.0,
    Label.TREE: 20.0,
    Label.CAR: 3.0,
    Label.POLE: 4.0,
    Label.SIGN: 3.0,
    Label.PEDESTRIAN: 7.0,
    Label.IGNORE: 3.0,
}


@dataclass(frozen=True)
class Weather:
    """The light of a scene."""

    zenith: Colour
    horizon: Colour
    haze_m: float
    """Distance at which half of a thing's colour is the sky's."""
    gain: Colour
    contrast: float
    noise: float
    """Standard deviation of the sensor's noise [levels]."""
    blur_px: float


def draw_weather(dice: Dice) -> Weather:
    """Draw clear, grey, evening or misty light."""
    dull = dice.chance(0.35)
    evening = dice.chance(0.15)
    zenith = (150.0, 155.0, 162.0) if dull else (85.0, 130.0, 190.0)
    horizon = (235.0, 190.0, 150.0) if evening else (200.0, 208.0, 215.0)
    brightness, warmth = dice.between(0.5, 0.75) if evening else dice.between(0.78, 1.2), dice.between(-0.09, 0.09)
    return Weather(
        zenith=dice.near(zenith, 20),
        horizon=dice.near(horizon, 15),
        haze_m=dice.between(60, 130) if dice.chance(0.2) else dice.between(150, 500),
        gain=(brightness * (1 + warmth), brightness, brightness * (1 - warmth)),
        contrast=dice.between(0.8, 1.2),
        noise=dice.between(1.5, 7),
        blur_px=dice.between(0.4, 0.9) if dice.chance(0.3) else 0.0,
    )


def paint_sky(canvas: Canvas, weather: Weather, horizon_px: float, dice: Dice) -> None:
    """Paint the sky down to the horizon, with clouds."""
    rows = max(1, int(horizon_px) + 2)
    share_R11 = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None] ** 1.3
    zenith, horizon = (np.array(colour, dtype=np.float32) for colour in (weather.zenith, weather.horizon))
    gradient_R13 = (zenith + share_R11 * (horizon - zenith)).astype(np.uint8)
    canvas.image.paste(Image.fromarray(gradient_R13).resize((canvas.width_px, rows)))
    for _ in range(dice.count(0, 5)):
        centre = dice.between(0, canvas.width_px), dice.between(0, 0.7 * horizon_px)
        radius_px, cloud = dice.between(0.03, 0.12) * canvas.width_px, scaled(weather.horizon, dice.between(0.95, 1.12))
        for _ in range(4):
            at = centre[0] + radius_px * dice.between(-1.5, 1.5), centre[1] + 0.2 * radius_px * dice.between(-1, 1)
            canvas.ellipse(at, (radius_px * dice.between(0.5, 1.2), 0.3 * radius_px), cloud, Label.SKY)


def develop(canvas: Canvas, weather: Weather, dice: Dice) -> tuple[Bytes, Bytes]:
    """Turn the canvas into the picture a camera takes.

    Returns:
        image uint8 [H, W, 3] and labels uint8 [H, W]
    """
    # One sample of each block of the labels: averaging classes would invent some.
    labels_HW = np.ascontiguousarray(np.asarray(canvas.labels)[::SUPERSAMPLING, ::SUPERSAMPLING])
    small = canvas.image.reduce(SUPERSAMPLING)
    if weather.blur_px:
        small = small.filter(ImageFilter.GaussianBlur(weather.blur_px))
    image_HW3 = np.asarray(small).astype(np.float32)
    image_HW3 += _texture(labels_HW, dice)[..., None]
    gain_3 = np.array(weather.gain, dtype=np.float32) * weather.contrast
    image_HW3 = image_HW3 * (gain_3 * _uneven_light(labels_HW.shape, dice)[..., None]) + 110 * (1 - weather.contrast)
    image_HW3 += weather.noise * dice.generator.standard_normal(image_HW3.shape, dtype=np.float32)
    return image_HW3.clip(0, 255).astype(np.uint8), labels_HW


def _texture(labels_HW: Bytes, dice: Dice) -> Floats:
    height, width = labels_HW.shape
    fine_HW = dice.generator.standard_normal((height, width), dtype=np.float32)
    blotch_hw = dice.generator.standard_normal((-(-height // 3), -(-width // 3)), dtype=np.float32)
    blotch_HW = np.repeat(np.repeat(blotch_hw, 3, axis=0), 3, axis=1)[:height, :width]
    table = np.zeros(256, dtype=np.float32)
    for label, levels in _ROUGHNESS.items():
        table[label] = levels
    grain_HW = np.float32(0.6) * fine_HW + np.float32(0.7) * blotch_HW
    return (table[labels_HW] * grain_HW).astype(np.float32, copy=False)


def _uneven_light(size_HW: tuple[int, ...], dice: Dice) -> Floats:
    """Return a smooth field about 1: clouds, reflections, the lens's dark corners."""
    field_45 = 1 + 0.09 * dice.generator.standard_normal((4, 5), dtype=np.float32)
    return np.asarray(Image.fromarray(field_45).resize((size_HW[1], size_HW[0]), Image.Resampling.BICUBIC))
