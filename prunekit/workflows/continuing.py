"""A training that takes up another run's network, pruned or not, where `train` by a recipe builds a dense one.

The network as it was taken lies in the run's folder `start`, so that a resumed training needs nothing from elsewhere.
"""

import shutil
from pathlib import Path
from typing import Any, Final

from prunekit.errors import ModelError
from prunekit.modelfile import LoadedModel, load_model, read_card, save_model
from prunekit.recipe import Recipe, merge, parse_recipe
from prunekit.run import RunDirectory, open_run

_START: Final = "start"
# NVIDIA's pytorch-quantization advises a tenth of the epochs and, for ImageNet's long trainings, a hundredth of the
# learning rate; ours are shorter, so the rate falls less. Not tuned.
QAT_SHARE: Final = 0.1


def recipe_from(source: RunDirectory, overrides: dict[str, Any]) -> Recipe:
    """Return the recipe of a training that goes on from a finished run: the run's own, with `overrides`.

    What belonged to the run's making is left out: the file of weights, distillation, sparsity and rewinding. With
    `train.qat` epochs and learning rate are a tenth of the run's where `overrides` do not say them.

    Raises:
        RunError: the run's recipe is missing or damaged.
        ConfigError: `overrides` cannot be followed, or ask for another network.
    """
    own = source.recipe()
    kept = {"weights": str(source.path.resolve()), "weights_part": "", "allow_missing": (), "allow_unexpected": ()}
    reset: dict[str, Any] = {f"model.{name}": value for name, value in kept.items()} | {"model.pretrained": False}
    reset |= {"train.distill": "none", "train.sparsity": "none", "train.rewind_epoch": 0}
    if overrides.get("train.qat"):
        reset["train.epochs"] = max(1, round(own.train.epochs * QAT_SHARE))
        reset["train.lr"] = own.train.lr * QAT_SHARE
    return parse_recipe(merge(own.model_dump(), reset | overrides))


def start_of(recipe: Recipe, run: RunDirectory, *, resume: bool, trust_code: bool) -> LoadedModel | None:
    """Return the network that the training takes up from another run; None where it builds its own.

    Raises:
        UntrustedCodeError: its network is code of others, and not trusted.
        PrunekitError: the run's model cannot be read, or is another network than the recipe's.
    """
    kept = run.part(_START)
    if resume:
        return load_model(kept, trust_code=trust_code) if kept.model_path.exists() else None
    folder = Path(recipe.model.weights)
    if not (recipe.model.weights and folder.is_dir()):
        return None
    source = open_run(folder)
    card = read_card(source)
    # Before anything is built: a trusted recipe does not make the factory of another file trusted.
    if (card.factory, card.head) != (recipe.model.name, recipe.model.head):
        raise ModelError(
            f"The run {folder} holds {card.factory} with the {card.head} head, the recipe asks for {recipe.model.name} "
            f"with {recipe.model.head}. Leave model.name and model.head as the run has them."
        )
    return load_model(source, trust_code=trust_code)


def keep_start(run: RunDirectory, loaded: LoadedModel) -> None:
    """Write the network as it was taken, before the first step."""
    kept = run.part(_START)
    kept.path.mkdir(parents=True, exist_ok=True)
    save_model(kept, loaded.segmenter, loaded.card)


def drop_start(run: RunDirectory) -> None:
    """Remove what `keep_start` wrote, of a training that did not begin."""
    shutil.rmtree(run.part(_START).path, ignore_errors=True)
