"""What a strategy is, and how many samples each step keeps.

Shapes: B batch, H height, W width, k kept samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from prunekit.data.transforms import draw_seed
from prunekit.recipe import SelectionConfig

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
    """Steps of this epoch."""
    before: int | None = None
    """Steps of the run before this epoch; None: all epochs have the same."""
    whole: int | None = None
    """Steps of the run; None: all epochs have the same."""

    @property
    def run_step(self) -> int:
        """Step within the run."""
        return (self.epoch * self.steps if self.before is None else self.before) + self.step

    @property
    def run_steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps if self.whole is None else self.whole

    @property
    def progress(self) -> float:
        """Share of the run that is over, 0 to 1."""
        return (self.epoch + self.step / self.steps) / self.epochs


class Remembering(Protocol):
    """Holds what a resumed run needs, as tensors."""

    def state(self) -> dict[str, Tensor]:
        """Return all that a resumed run needs."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned: the same names, shapes and types, all finite.

        Raises:
            ValueError: a value is out of range.
        """
        ...


class Selector(Remembering, Protocol):
    """Chooses the samples of a batch that are trained on."""

    def select(self, images_B3HW: Tensor, place: Place) -> Tensor:
        """Return the positions to keep, sorted, int64 [k] on the CPU, and learn from the batch."""
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


def draws(seed: int, place: Place) -> torch.Generator:
    """Return the generator of one step's selection."""
    return torch.Generator().manual_seed(draw_seed(seed, _DRAWS, place.epoch, place.step))
