"""Class-balanced draws: every class equally often in an epoch, each crop around one region of the drawn class.

The sampler of DCFP and SIRFP, from a reading of the official code (sirfp.md 1.3). All of it depends on the seed, the
epoch and the place in the epoch only.

Shapes: N samples, K classes, P classes that occur, H height, W width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunekit.data.regions import regions_of
from prunekit.data.transforms import draw_seed
from prunekit.errors import DataError

_DRAWS = 0xBA1A  # keeps these draws apart from those of the images' order and views
_FOCUS = 0xF0C5


@dataclass(frozen=True)
class Draw:
    """A sample to show, and the class to show of it."""

    index: int
    label: int


def present_classes(labels_HW: Tensor, num_classes: int) -> Tensor:
    """Return which classes have a pixel, bool [K]."""
    return torch.bincount(labels_HW.flatten().long(), minlength=num_classes)[:num_classes] > 0


def balanced_draws(present_NK: Tensor, count: int, seed: int, epoch: int) -> list[Draw]:
    """Return an epoch's draws in random order: each class that occurs, equally often.

    Where `count` is no multiple of the classes, some drawn at random come once more. The samples of a class come in
    turns: none a second time before each has come once.

    Raises:
        DataError: no sample has a pixel of any class.
    """
    generator = torch.Generator().manual_seed(draw_seed(seed, _DRAWS, epoch))
    classes_P = present_NK.any(dim=0).nonzero().flatten()
    if not len(classes_P):
        raise DataError("No training pixel belongs to a class, so none can be drawn. Check the labels and class list.")
    share, left = divmod(count, len(classes_P))
    favoured = set(torch.randperm(len(classes_P), generator=generator)[:left].tolist())
    draws: list[Draw] = []
    for place, label in enumerate(classes_P.tolist()):
        indices = present_NK[:, label].nonzero().flatten()
        draws += [Draw(index, label) for index in _in_turns(indices, share + (place in favoured), generator)]
    order = torch.randperm(len(draws), generator=generator).tolist()
    return [draws[place] for place in order]


def focus_of(labels_HW: Tensor, label: int, seed: int) -> tuple[float, float]:
    """Return a place in a random 8-connected region of a class, each region alike, as shares of height and width.

    The place is the region's pixel nearest to the middle of its bounding box: a pixel of the class in any case (our
    reading of "centred on the region"). The class must occur.
    """
    regions = regions_of((labels_HW == label).numpy())
    row, column = regions.centre(int(np.random.default_rng([seed, _FOCUS]).integers(regions.count)))
    height, width = labels_HW.shape
    return (row + 0.5) / height, (column + 0.5) / width


def _in_turns(indices: Tensor, count: int, generator: torch.Generator) -> list[int]:
    rounds = -(-count // len(indices))
    turns = [indices[torch.randperm(len(indices), generator=generator)] for _ in range(rounds)]
    return torch.cat(turns)[:count].tolist() if turns else []
