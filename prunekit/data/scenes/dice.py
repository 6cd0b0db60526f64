"""Random draws that read like what they are for."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from prunekit.data.scenes.canvas import Colour

_Choice = TypeVar("_Choice")


class Dice:
    """The random source of one scene, named by integers such as (seed, split, index)."""

    def __init__(self, *key: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))

    def between(self, low: float, high: float) -> float:
        """Return a number drawn evenly from a range."""
        return low + (high - low) * float(self.generator.random())

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return float(self.generator.random()) < probability

    def count(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return int(self.generator.integers(low, high + 1))

    def one_of(self, choices: Sequence[_Choice]) -> _Choice:
        """Return one of the choices."""
        return choices[int(self.generator.integers(len(choices)))]

    def near(self, colour: Colour, spread: float) -> Colour:
        """Return a colour in the neighbourhood of one, each part within `spread`."""
        red, green, blue = (min(255.0, max(0.0, part + self.between(-spread, spread))) for part in colour)
        return red, green, blue

    def tone(self, colour: Colour, spread: float) -> Colour:
        """Return the colour brighter or darker by up to a share of `spread`."""
        return scaled(colour, self.between(1 - spread, 1 + spread))


def scaled(colour: Colour, factor: float) -> Colour:
    """Return a colour with its brightness multiplied, cut off at white."""
    return min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor)
