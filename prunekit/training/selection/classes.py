"""Selection by class, ours: of M times as many views as a step takes, those that even out the classes of its batch.

It asks PFB's question, which samples are rare, of the labels, which are known before any forward pass. Only the views'
parameters are drawn for all; their classes are counted in the crop windows of small masks, and images are decoded and
drawn for the chosen ones alone. Nothing is reweighted: the bias towards rare classes is meant.

Shapes: P views to choose from, K classes, B batch.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import ViewKey
from prunekit.data.sampling import ViewClasses, views_of_epoch
from prunekit.errors import DataUsageError
from prunekit.recipe import Recipe
from prunekit.training.selection.ahead import InOrder, StepPlan

LEAST_SHARE: Final = 1e-4  # of all pixels; a class that is rarer counts as if it were this frequent


class ClassChooser(InOrder):
    """Takes the views that add most to the square roots of the class amounts, one after the other.

    Raises:
        DataError: a sample cannot be read, or the masks hold fewer than two classes.
    """

    def __init__(self, recipe: Recipe, train_set: SegmentationDataset, plan: StepPlan) -> None:
        super().__init__(recipe, train_set, plan)
        self.pool_size = math.ceil(recipe.selection.pool * self.batch_size)
        train = recipe.train
        self._classes = ViewClasses(train_set, recipe.data, workers=train.workers, cache=train.cache)
        pixels_K = self._classes.pixels_of_all()
        self._check(pixels_K, train_set)
        self._frequency_K = np.maximum(pixels_K / pixels_K.sum(), LEAST_SHARE)

    @staticmethod
    def _check(pixels_K: npt.NDArray[np.int64], train_set: SegmentationDataset) -> None:
        found = [train_set.classes.names[label] for label in pixels_K.nonzero()[0]]
        if len(found) < 2:
            raise DataUsageError(
                f"The training masks hold {f'one class only ({found[0]})' if found else 'no class'}, so that views "
                "cannot be chosen by class. Correct the masks, or set selection.strategy to none."
            )

    def choose(self, epoch: int) -> Sequence[Sequence[ViewKey]]:
        """Return the chosen views where the plan chooses, and the next ones elsewhere."""
        views = views_of_epoch(self.count, self.seed, epoch)
        batches: list[list[ViewKey]] = []
        for step in range(self.plan.steps(epoch)):
            if not self.plan.chooses(epoch, step):
                batches.append(list(itertools.islice(views, self.batch_size)))
                continue
            pool = list(itertools.islice(views, self.pool_size))
            amounts_PK = np.stack([self._classes.share(key) for key in pool]) / self._frequency_K
            batches.append([pool[place] for place in greedy(amounts_PK, self.batch_size)])
        return batches


def greedy(amounts_PK: npt.NDArray[np.float64], count: int) -> list[int]:
    """Return which rows are taken, in the order of taking; of equal ones the first.

    Each row i that is taken has the largest sum over the classes c of sqrt(A_c + h_ic) - sqrt(A_c), where A is the sum
    of the rows taken before.
    """
    total_K = np.zeros(amounts_PK.shape[1])
    left_P = np.ones(len(amounts_PK), dtype=bool)
    taken: list[int] = []
    for _ in range(count):
        gains_P = (np.sqrt(total_K + amounts_PK) - np.sqrt(total_K)).sum(axis=1)
        best = int(np.where(left_P, gains_P, -1.0).argmax())
        left_P[best] = False
        total_K += amounts_PK[best]
        taken.append(best)
    return taken
