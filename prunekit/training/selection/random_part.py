"""A random part of each batch: the control of every selection."""

from collections.abc import Mapping

import torch
from torch import Tensor

from prunekit.recipe import SelectionConfig
from prunekit.training.selection.base import KeepCount, Place, draws


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
