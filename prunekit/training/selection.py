"""Which samples of a batch get a backward pass: the strategies, and how many samples each step keeps.

Shapes: B batch, H height, W width, k kept samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from prunekit.data.transforms import draw_seed
from prunekit.errors import ConfigError
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import Recipe, SelectionConfig

MIN_KEPT: Final = 2  # batch norm behind a global pooling layer needs two values a channel
RAMP_START: Final = 0.2  # share of the ratio at the start of the ramp, as in the released training script
_DRAWS: Final = 0x5E1EC7  # keeps the draws of the selection apart from those of the data


@dataclass(frozen=True)
class Place:
    """Where in the run a step stands; epochs and steps count from 0."""

    epoch: int
    epochs: int
    step: int
    """Step within the epoch."""
    steps: int
    """Steps of one epoch."""

    @property
    def progress(self) -> float:
        """Share of the run that is over, 0 to 1."""
        return (self.epoch + self.step / self.steps) / self.epochs


class Selector(Protocol):
    """Chooses the samples of a batch that are trained on; what it remembers is tensors."""

    def select(self, images_B3HW: Tensor, place: Place) -> Tensor:
        """Return the positions to keep, sorted, int64 [k] on the CPU, and learn from the batch."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return all that a resumed run needs."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned: the same names, shapes and types, all finite.

        Raises:
            ValueError: a value is out of range.
        """
        ...


class KeepCount:
    """How many samples of each batch are kept, so that the realised share meets the planned one.

    A batch of 8 at ratio 0.4 should keep 4.8. The part that cannot be kept is carried to the next batch, so over the
    whole run the count is off by less than one sample, where rounding down would leave out 10 points more.
    """

    def __init__(self, config: SelectionConfig) -> None:
        self.config = config
        self.carry = 0.5  # half a sample ahead: round to nearest rather than down

    def ratio(self, progress: float) -> float:
        """Return the planned pruned share at `progress` (0 to 1): full-data ends and the released script's ramp."""
        config = self.config
        if not config.start <= progress < config.end:
            return 0.0
        ramp_steps = config.end / 2 - config.start
        if not config.ramp or ramp_steps <= 0:
            return config.ratio
        risen = (min(progress, config.end / 2) - config.start) / ramp_steps
        return config.ratio * (RAMP_START + (1 - RAMP_START) * risen)

    def take_up(self, carry: Tensor) -> None:
        """Go on with the carried part of a sample.

        Raises:
            ValueError: it is no part of one.
        """
        if not 0 <= float(carry) <= 1:
            raise ValueError(f"the carried part of a sample is {float(carry)}")
        self.carry = float(carry)

    def next(self, batch_size: int, progress: float) -> int:
        """Return how many samples of this batch to keep."""
        wanted = (1 - self.ratio(progress)) * batch_size + self.carry
        count = min(int(wanted), batch_size)
        self.carry = wanted - count
        return count


class KeepAll:
    """Trains on every sample."""

    def select(self, images_B3HW: Tensor, place: Place) -> Tensor:  # noqa: ARG002  the protocol's signature
        """Return all positions."""
        return torch.arange(images_B3HW.shape[0])

    def state(self) -> dict[str, Tensor]:
        """Return nothing: there is nothing to remember."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""


class RandomSelector:
    """Keeps a fresh random part of each batch: the control that any score must beat (RS2, arXiv 2305.18424)."""

    def __init__(self, config: SelectionConfig, seed: int) -> None:
        self.keep = KeepCount(config)
        self.seed = seed

    def select(self, images_B3HW: Tensor, place: Place) -> Tensor:
        """Return random positions, drawn from the seed and the place alone."""
        batch_size = images_B3HW.shape[0]
        count = self.keep.next(batch_size, place.progress)
        order = torch.randperm(batch_size, generator=draws(self.seed, place))
        return order[:count].sort().values

    def state(self) -> dict[str, Tensor]:
        """Return the carried part of a sample."""
        return {"carry": torch.tensor(self.keep.carry, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back the carried part of a sample."""
        self.keep.take_up(state["carry"])


def draws(seed: int, place: Place) -> torch.Generator:
    """Return the generator of one step's selection."""
    return torch.Generator().manual_seed(draw_seed(seed, _DRAWS, place.epoch, place.step))


def _keep_all(segmenter: Segmenter, recipe: Recipe) -> Selector:  # noqa: ARG001  the registry's signature
    return KeepAll()


def _random(segmenter: Segmenter, recipe: Recipe) -> Selector:  # noqa: ARG001  the registry's signature
    return RandomSelector(recipe.selection, recipe.train.seed)


def _pfb(segmenter: Segmenter, recipe: Recipe) -> Selector:
    from prunekit.training.pfb import PfbSelector  # here, because pfb builds on this module

    return PfbSelector(segmenter, recipe)


STRATEGIES: Final[Mapping[str, Callable[[Segmenter, Recipe], Selector]]] = {
    "none": _keep_all,
    "random": _random,
    "pfb": _pfb,
}


def make_selector(segmenter: Segmenter, recipe: Recipe) -> Selector:
    """Return the recipe's strategy for a network that already lies on its device.

    Raises:
        ConfigError: the batch is too small for the ratio, or the stem cannot be found.
    """
    config, batch_size = recipe.selection, recipe.train.batch_size
    if config.strategy != "none" and (1 - config.ratio) * batch_size < MIN_KEPT:
        least = -(-MIN_KEPT // (1 - config.ratio))
        raise ConfigError(
            f"Leaving out {config.ratio:g} of a batch of {batch_size} keeps fewer than {MIN_KEPT} samples. "
            f"Set train.batch_size to {least:g} or more, or a smaller selection.ratio."
        )
    return STRATEGIES[config.strategy](segmenter, recipe)
