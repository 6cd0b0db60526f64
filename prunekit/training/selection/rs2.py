"""RS2: a fresh random subset of the images in each epoch, with the learning rate annealed over what is left.

Repeated sampling of random subsets (Okanovic et al. 2024, arXiv 2305.18424), in the form that samples anew from all
images each epoch. The paper has no window; ours, the same for all strategies, trains on all images outside it.
"""

import itertools
from collections.abc import Sequence

from prunekit.data.loading import ViewKey, in_batches
from prunekit.data.sampling import views_of_epoch
from prunekit.training.selection.ahead import InOrder


class FreshSubsets(InOrder):
    """Takes the first images of a new order in each epoch."""

    def choose(self, epoch: int) -> Sequence[Sequence[ViewKey]]:
        """Return a random subset of the images, of the size that the plan asks for."""
        images = self.plan.steps(epoch) * self.batch_size
        taken = list(itertools.islice(views_of_epoch(self.count, self.seed, epoch), images))
        return in_batches(taken, self.batch_size)
