"""What a strategy does that chooses before anything is drawn, and how many steps a training takes then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import ViewKey
from prunekit.data.sampling import views_of_steps
from prunekit.errors import ConfigError
from prunekit.recipe import Recipe, TrainConfig
from prunekit.training.selection.base import Place, Remembering


@dataclass(frozen=True)
class StepPlan:
    """How many steps each epoch takes; an epoch is an equal part of the run, with fewer steps where some are saved."""

    starts: tuple[int, ...]
    """Steps before each epoch, and those of the run at the end."""
    full_steps: int
    """Steps of as many epochs of all the data."""
    window: tuple[float, float]
    """Shares of the run between which a strategy chooses."""

    @classmethod
    def of(cls, train: TrainConfig, steps: int, ratio: float, window: tuple[float, float]) -> Self:
        """Return the plan of a run whose epochs have `steps` full batches: `ratio` of all are saved, in the window.

        Raises:
            ConfigError: an epoch would have no step.
        """
        width = window[1] - window[0]
        inside = 0.0 if ratio == 0 else ratio / width if width > ratio else 1.0
        if steps * train.budget * (1 - inside) < 1:
            raise ConfigError(
                f"An epoch of {steps} steps keeps fewer than one at train.budget {train.budget:g}, as {ratio:g} of the "
                f"run's steps are saved between {window[0]:g} and {window[1]:g} of it. Raise train.budget, lower "
                "selection.ratio or train.batch_size, widen selection.start and selection.end, or add images."
            )
        low, high = (share * train.epochs for share in window)
        saved = [inside * max(0.0, min(epoch, high) - low) for epoch in range(train.epochs + 1)]
        # + 0.5: to the nearest step, with what is left over carried on to the next epoch.
        exact = (steps * train.budget * (epoch - saved[epoch]) for epoch in range(train.epochs + 1))
        starts = tuple(int(round(number, 6) + 0.5) for number in exact)
        return cls(starts, steps * train.epochs, window)

    @property
    def epochs(self) -> int:
        """Epochs of the run."""
        return len(self.starts) - 1

    @property
    def whole(self) -> int:
        """Steps of the run."""
        return self.starts[-1]

    def steps(self, epoch: int) -> int:
        """Return the steps of an epoch, which counts from 0."""
        return self.starts[epoch + 1] - self.starts[epoch]

    def place(self, epoch: int, step: int) -> Place:
        """Return where a step of an epoch stands; both count from 0."""
        return Place(epoch, self.epochs, step, self.steps(epoch), self.starts[epoch], self.whole)

    def chooses(self, epoch: int, step: int) -> bool:
        """Tell whether a step lies where a strategy chooses."""
        return self.window[0] <= self.place(epoch, step).progress < self.window[1]


class Chooser(Remembering, Protocol):
    """Names the views of each batch before one is drawn."""

    def choose(self, epoch: int) -> Sequence[Sequence[ViewKey]]:
        """Return the views of each step of an epoch, `train.batch_size` of them a step."""
        ...


class InOrder:
    """Chooses nothing: whole passes over the images in turn, as many as the steps of the plan reach."""

    def __init__(self, recipe: Recipe, train_set: SegmentationDataset, plan: StepPlan) -> None:
        self.plan, self.count = plan, len(train_set)
        self.batch_size, self.seed = recipe.train.batch_size, recipe.train.seed

    def choose(self, epoch: int) -> Sequence[Sequence[ViewKey]]:
        """Return the next batches of the pass that the run is in."""
        first, last = self.plan.starts[epoch], self.plan.starts[epoch + 1]
        return views_of_steps(self.count, self.batch_size, self.seed, first, last)

    def state(self) -> dict[str, Tensor]:
        """Return nothing: all follows from the seed and the place in the run."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""
