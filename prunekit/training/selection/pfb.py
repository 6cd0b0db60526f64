"""PFB: leave out the samples of a batch whose shallow features lie where the running distribution is densest.

The form is the paper's (arXiv 2506.23674) as far as it is known, with the mends that a small batch needs: centres are
seeded from as many batches as it takes, the descriptor is standardised, and the noise is measured in standard
deviations of the batch's own scores. The shallow pass runs without gradients for all samples, the whole network
again for the kept ones, so that a sample left out costs no backward pass and no activation memory.

Shapes: B batch, C channels, D length of the descriptor, N centres, H W the images' size, h w the features' size.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from prunekit.data.transforms import crop_size
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import Recipe
from prunekit.training.device import autocast
from prunekit.training.selection.base import KeepCount, Place, draws
from prunekit.training.selection.stem import Stem, StemRunner, find_stem

MIN_SPREAD = 1e-3  # of a standardised dimension; below it the centres coincide and a density means nothing


class CentreDensity:
    """A running estimate of how dense a place in descriptor space is: weighted Gaussian kernels on cluster centres.

    All in float64 on the CPU: the sums run over a whole training. The centres lie in the descriptor's own units;
    scores and assignments use units of its running mean and variance, so a drifting scale does no harm.
    """

    def __init__(self, centres: int, dimensions: int, alpha: float) -> None:
        self.alpha = alpha
        self.centres_ND = torch.zeros(centres, dimensions, dtype=torch.float64)
        self.counts_N = torch.zeros(centres, dtype=torch.float64)
        self.mean_D = torch.zeros(dimensions, dtype=torch.float64)
        self.variance_D = torch.zeros(dimensions, dtype=torch.float64)
        self.batches = 0

    @property
    def ready(self) -> bool:
        """Whether every centre has been seeded by a sample."""
        return bool((self.counts_N > 0).all())

    def observe(self, descriptors_BD: Tensor) -> None:
        """Follow mean and variance of all samples: a plain mean at first, then one that forgets at the rate alpha."""
        self.batches += 1
        rate = max(1 / self.batches, self.alpha)
        self.mean_D += rate * (descriptors_BD.mean(dim=0) - self.mean_D)
        self.variance_D += rate * ((descriptors_BD - self.mean_D).square().mean(dim=0) - self.variance_D)

    def update(self, descriptors_BD: Tensor) -> None:
        """Move the centres towards samples that are trained on; the first N samples become the centres."""
        free_F = (self.counts_N == 0).nonzero().flatten()
        seeds = min(len(free_F), len(descriptors_BD))
        self.centres_ND[free_F[:seeds]] = descriptors_BD[:seeds]
        self.counts_N[free_F[:seeds]] = 1
        if seeds < len(descriptors_BD):
            self._move(descriptors_BD[seeds:])

    def _move(self, descriptors_BD: Tensor) -> None:
        distance_BN = torch.cdist(self._standard(descriptors_BD), self._standard(self.centres_ND), compute_mode=_EXACT)
        member_BN = F.one_hot(distance_BN.argmin(dim=1), len(self.centres_ND)).double()
        m_N1, n_N1 = member_BN.sum(dim=0)[:, None], self.counts_N[:, None]
        sums_ND = member_BN.T @ descriptors_BD
        # A running mean while n is small; for n >> m it tends to (1 - alpha) c + alpha mean(x).
        pull_N1 = 1 + self.alpha * n_N1 / m_N1.clamp(min=1)
        moved_ND = ((1 - self.alpha) * n_N1 * self.centres_ND + pull_N1 * sums_ND) / (n_N1 + m_N1)
        self.centres_ND = torch.where(m_N1 > 0, moved_ND, self.centres_ND)
        self.counts_N = self.counts_N + m_N1[:, 0]

    def log_density(self, descriptors_BD: Tensor) -> Tensor:
        """Return the log-density of each sample up to a constant, float64 [B]; all centres must be seeded."""
        centres_ND = self._standard(self.centres_ND)
        count, dimensions = centres_ND.shape
        # Silverman's rule: kernel width in units of the centres' spread.
        width = (4 / (dimensions + 2)) ** (1 / (dimensions + 4)) * count ** (-1 / (dimensions + 4))
        bandwidth_D = width * centres_ND.std(dim=0).clamp(min=MIN_SPREAD)
        scaled_BD, scaled_ND = self._standard(descriptors_BD) / bandwidth_D, centres_ND / bandwidth_D
        squares_BN = torch.cdist(scaled_BD, scaled_ND, compute_mode=_EXACT).square()
        log_weights_N = (self.counts_N / self.counts_N.sum()).log()
        return torch.logsumexp(log_weights_N - squares_BN / 2, dim=1)

    def _standard(self, points_XD: Tensor) -> Tensor:
        # A channel that is dead everywhere has variance 0, and then its numerator is 0 too.
        return (points_XD - self.mean_D) / self.variance_D.sqrt().clamp(min=1e-12)

    def state(self) -> dict[str, Tensor]:
        """Return the estimate as tensors."""
        return {
            "centres": self.centres_ND,
            "counts": self.counts_N,
            "mean": self.mean_D,
            "variance": self.variance_D,
            "batches": torch.tensor(self.batches),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned.

        Raises:
            ValueError: a count or a variance is below 0.
        """
        if any(bool((state[name] < 0).any()) for name in ("counts", "variance", "batches")):
            raise ValueError("a count or a variance of the selection is below 0")
        self.centres_ND.copy_(state["centres"])
        self.counts_N.copy_(state["counts"])
        self.mean_D.copy_(state["mean"])
        self.variance_D.copy_(state["variance"])
        self.batches = int(state["batches"])


_EXACT = "donot_use_mm_for_euclid_dist"  # torch's word; the fast way loses digits where the distance is small


class PfbSelector:
    """Keeps the samples of the lowest noisy density, and lets the estimate follow the kept ones."""

    def __init__(self, segmenter: Segmenter, recipe: Recipe) -> None:
        self._segmenter = segmenter
        self._config, self._train = recipe.selection, recipe.train
        self.stem = _stem_of(segmenter, recipe)
        self._runner = StemRunner(segmenter.network, self.stem)
        self.keep = KeepCount(recipe.selection)
        self.density = CentreDensity(
            self._config.centres, min(self._config.descriptor, self.stem.channels), self._config.alpha
        )

    def select(self, images_B3HW: Tensor, place: Place) -> Tensor:
        """Return the positions of the samples in the thinnest places; all of them until the centres are seeded."""
        batch_size = images_B3HW.shape[0]
        if place.progress >= self._config.end:  # full data to the end: no score is needed any more
            return torch.arange(batch_size)
        descriptors_BD = self.describe(images_B3HW)
        self.density.observe(descriptors_BD)
        kept = torch.arange(batch_size)
        if self.density.ready:
            count = self.keep.next(batch_size, place.progress)
            if count < batch_size:
                kept = self._thinnest(descriptors_BD, count, draws(self._train.seed, place))
        self.density.update(descriptors_BD[kept])
        return kept

    def describe(self, images_B3HW: Tensor) -> Tensor:
        """Return the descriptors, float64 [B, D] on the CPU: features averaged over space, then over channels."""
        with autocast(images_B3HW.device, self._train.precision):
            features_BChw = self._runner.features(images_B3HW, self._segmenter)
        means_BC = features_BChw.float().mean(dim=(2, 3))
        return F.adaptive_avg_pool1d(means_BC, self.density.centres_ND.shape[1]).double().cpu()

    def _thinnest(self, descriptors_BD: Tensor, count: int, generator: torch.Generator) -> Tensor:
        score_B = self.density.log_density(descriptors_BD)
        noise_B = torch.randn(len(score_B), generator=generator, dtype=torch.float64)
        noisy_B = score_B + self._config.noise * score_B.std() * noise_B
        return noisy_B.argsort(stable=True)[:count].sort().values

    def state(self) -> dict[str, Tensor]:
        """Return the density estimate and the carried part of a sample."""
        return {**self.density.state(), "carry": torch.tensor(self.keep.carry, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self.density.load_state(state)
        self.keep.take_up(state["carry"])


def _stem_of(segmenter: Segmenter, recipe: Recipe) -> Stem:
    height, width = (math.ceil(side / segmenter.stride) * segmenter.stride for side in crop_size(recipe.data))
    parameter = next(segmenter.parameters())
    return find_stem(segmenter.network, parameter.new_zeros(1, 3, height, width), recipe.selection.stem)
