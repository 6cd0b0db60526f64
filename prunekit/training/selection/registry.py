"""The strategies by name: those that skip a part of each batch, and those that choose before anything is drawn."""

from collections.abc import Callable, Mapping
from typing import Final

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import steps_per_epoch
from prunekit.errors import ConfigError
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import Recipe
from prunekit.training.selection.ahead import Chooser, InOrder, StepPlan
from prunekit.training.selection.base import Remembering, Selector
from prunekit.training.selection.classes import ClassChooser
from prunekit.training.selection.keep_all import KeepAll
from prunekit.training.selection.pfb import PfbSelector
from prunekit.training.selection.random_part import RandomSelector
from prunekit.training.selection.rs2 import FreshSubsets

MIN_KEPT: Final = 2  # batch norm behind a global pooling layer needs two values a channel


def _keep_all(segmenter: Segmenter, recipe: Recipe) -> Selector:  # noqa: ARG001  the registry's signature
    return KeepAll()


def _random(segmenter: Segmenter, recipe: Recipe) -> Selector:  # noqa: ARG001  the registry's signature
    return RandomSelector(recipe.selection, recipe.train.seed)


def _pfb(segmenter: Segmenter, recipe: Recipe) -> Selector:
    return PfbSelector(segmenter, recipe)


STRATEGIES: Final[Mapping[str, Callable[[Segmenter, Recipe], Selector]]] = {
    "none": _keep_all,
    "random": _random,
    "pfb": _pfb,
}

CHOOSERS: Final[Mapping[str, Callable[[Recipe, SegmentationDataset, StepPlan], Chooser]]] = {
    "rs2": FreshSubsets,
    "classes": ClassChooser,
}
"""Choose before drawing; the whole batch is then trained on."""


def make_selector(segmenter: Segmenter, recipe: Recipe) -> Selector:
    """Return what skips a part of each batch, for a network that already lies on its device.

    Raises:
        ConfigError: the batch is too small for the ratio, or the stem cannot be found.
    """
    config, batch_size = recipe.selection, recipe.train.batch_size
    if config.strategy in CHOOSERS:
        return KeepAll()
    if config.strategy != "none" and (1 - config.ratio) * batch_size < MIN_KEPT:
        least = -(-MIN_KEPT // (1 - config.ratio))
        raise ConfigError(
            f"Leaving out {config.ratio:g} of a batch of {batch_size} keeps fewer than {MIN_KEPT} samples. "
            f"Set train.batch_size to {least:g} or more, or a smaller selection.ratio."
        )
    return STRATEGIES[config.strategy](segmenter, recipe)


def make_plan(recipe: Recipe, train_set: SegmentationDataset) -> StepPlan:
    """Return how many steps each epoch takes: all, the budget's share of them, or what the strategy leaves.

    Raises:
        ConfigError: an epoch would have no step.
        DataError: there is not one full batch.
    """
    config, steps = recipe.selection, steps_per_epoch(train_set, recipe.train.batch_size)
    ratio = config.ratio if config.strategy in CHOOSERS else 0.0
    return StepPlan.of(recipe.train, steps, ratio, (config.start, config.end))


def make_chooser(recipe: Recipe, train_set: SegmentationDataset, plan: StepPlan) -> Chooser | None:
    """Return what names the views of each batch; None where the balanced sampler does.

    Raises:
        ConfigError: the strategy and the sampler both choose.
        DataError: a sample cannot be read, or the labels leave nothing to choose by.
    """
    strategy = recipe.selection.strategy
    if recipe.data.sampler == "balanced":
        if strategy in CHOOSERS:
            raise ConfigError(
                f"selection.strategy = {strategy} and data.sampler = balanced both choose the images. Leave one out."
            )
        return None
    return CHOOSERS.get(strategy, InOrder)(recipe, train_set, plan)


def remembering(recipe: Recipe, selector: Selector, chooser: Chooser | None) -> Remembering:
    """Return which of the two is the strategy, and so has a state to keep."""
    return chooser if chooser is not None and recipe.selection.strategy in CHOOSERS else selector
