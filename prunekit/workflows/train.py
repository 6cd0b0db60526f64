"""Training from a recipe: open the data, build the network by its seed, fit."""

from prunekit.data.registry import open_dataset
from prunekit.data.transforms import contract_of
from prunekit.modelfile import new_card
from prunekit.models.segmenter import Segmenter
from prunekit.models.zoo import build
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.training.device import cpu_threads, resolve_device
from prunekit.training.events import Observer
from prunekit.training.loop import FitReport, fit
from prunekit.training.seeding import seeded


def train(recipe: Recipe, run: RunDirectory, observer: Observer | None = None, resume: bool = True) -> FitReport:
    """Train the recipe's network into `run`, or go on where `run` was interrupted.

    Args:
        recipe: the settings; written to `run` with every default filled in.
        run: the run directory, new or interrupted.
        observer: told about each step and epoch.
        resume: take up `run`'s checkpoint if there is one; otherwise start anew.

    Raises:
        PrunekitError: settings, data, network or checkpoint cannot be used; says what to do.
    """
    resolve_device(recipe.train.device)  # a wrong device is known before any data is read
    train_set, val_set = open_dataset(recipe.data, "train"), open_dataset(recipe.data, "val")
    if not (resume and run.state_path.exists()):  # a checkpoint must not lose the recipe it was made by
        run.write_recipe(recipe)
    with cpu_threads(recipe.train):
        segmenter = build_network(recipe, len(train_set.classes))
    card = new_card(recipe.model, train_set.classes, contract_of(recipe.data, segmenter.stride))
    return fit(
        segmenter, recipe, run, train_set=train_set, val_set=val_set, card=card, observer=observer, resume=resume
    )


def build_network(recipe: Recipe, num_classes: int) -> Segmenter:
    """Build the recipe's network; its initial weights depend on the recipe's seed alone."""
    model = recipe.model
    with seeded(recipe.train.seed):
        return build(model.name, num_classes=num_classes, head=model.head, pretrained=model.pretrained)
