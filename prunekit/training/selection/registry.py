"""The strategies by name."""

from collections.abc import Callable, Mapping
from typing import Final

from prunekit.errors import ConfigError
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import Recipe
from prunekit.training.selection.base import Selector
from prunekit.training.selection.keep_all import KeepAll
from prunekit.training.selection.pfb import PfbSelector
from prunekit.training.selection.random_part import RandomSelector

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
