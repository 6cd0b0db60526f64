"""Training from a recipe: open the data, build the network by its seed, fit."""

from collections.abc import Callable
from pathlib import Path

from prunekit.data.labels.counts import check_labels
from prunekit.data.own.finding import check_trusted
from prunekit.data.registry import open_dataset
from prunekit.data.transforms import contract_of
from prunekit.errors import PrunekitError, UntrustedCodeError
from prunekit.modelfile import new_card
from prunekit.models.hf import named_by_settings
from prunekit.models.segmenter import Segmenter
from prunekit.models.trust import check_foreign
from prunekit.models.weights.loading import WeightsReport, load_weights_
from prunekit.models.zoo import build, parse_spec
from prunekit.progress import Progress, told
from prunekit.recipe import ModelConfig, Recipe
from prunekit.run import RunDirectory
from prunekit.training.device import cpu_threads, resolve_device
from prunekit.training.events import Observer
from prunekit.training.loop import FitReport, fit
from prunekit.training.seeding import seeded
from prunekit.workflows.continuing import drop_start, keep_start, start_of
from prunekit.workflows.preparing import with_pretrained_preprocessing


def train(
    recipe: Recipe,
    run: RunDirectory,
    observer: Observer | None = None,
    resume: bool = True,
    *,
    trust_code: bool = True,
    held: bool = False,
    on_weights: Callable[[WeightsReport], None] | None = None,
    on_progress: Progress | None = None,
    on_ready: Callable[[], None] | None = None,
) -> FitReport:
    """Train the recipe's network into `run`, or go on where `run` was interrupted.

    Args:
        recipe: the settings; written to `run` with every default filled in. With pretrained weights, mean and standard
            deviation are theirs where the recipe does not say them.
        run: the run directory, new or interrupted; locked before anything is read from it or written to it.
        observer: told about each step and epoch.
        resume: take up `run`'s checkpoint if there is one; otherwise start anew.
        trust_code: False, for a recipe that came with the run, refuses a network or a data set that prunekit does not
            bring.
        held: the caller holds the run's lock.
        on_weights: told what came from the file that the network starts from, if it does.
        on_progress: told how far the check of the data is.
        on_ready: called once all is known to fit, before the first step.

    Raises:
        UntrustedCodeError: the recipe names code, and is not trusted.
        PrunekitError: settings, data, network or checkpoint cannot be used; says what to do. A run that was new is
            left as it was.
    """
    if not trust_code:
        _check_foreign(recipe, run)
    with run.locked(held=held), told(on_progress):
        new = not run.recipe_path.exists()
        try:
            resume = resume and run.state_path.exists()
            ready, report = on_ready or (lambda: None), on_weights or _silent
            return _trained(recipe, run, observer, resume, report, ready, trust_code=trust_code)
        except PrunekitError:
            if new and not (run.state_path.exists() or run.metrics_path.exists()):
                for written in (run.recipe_path, run.labels_path):  # no work; the corrected request finds it empty
                    written.unlink(missing_ok=True)
                drop_start(run)
            raise


def _check_foreign(recipe: Recipe, run: RunDirectory) -> None:
    weights = Path(recipe.model.weights)
    new_from_run = bool(recipe.model.weights) and weights.is_dir() and not run.recipe_path.exists()
    path = RunDirectory(weights).recipe_path if new_from_run else run.recipe_path
    check_trusted(recipe.data, path)
    name = recipe.model.name
    try:
        check_foreign(parse_spec(name), name)
    except UntrustedCodeError as error:
        raise UntrustedCodeError(f"{path}: {error.what}") from None


def _silent(_: WeightsReport) -> None:
    """Say nothing."""


def _trained(
    recipe: Recipe,
    run: RunDirectory,
    observer: Observer | None,
    resume: bool,
    on_weights: Callable[[WeightsReport], None],
    on_ready: Callable[[], None],
    *,
    trust_code: bool,
) -> FitReport:
    recipe = with_named_network(recipe if resume else with_pretrained_preprocessing(recipe).recipe)
    resolve_device(recipe.train.device)  # a wrong device is known before any data is read
    train_set = open_dataset(recipe.data, "train", trust_code=trust_code)
    val_set = open_dataset(recipe.data, "val", trust_code=trust_code)
    if not resume:
        check_labels(train_set, "train", recipe.data, training=True)
        check_labels(val_set, "val", recipe.data)
    with cpu_threads(recipe.train):
        start = start_of(recipe, run, resume=resume, trust_code=trust_code)
        if start is None:
            segmenter = build_network(recipe, len(train_set.classes), restored=resume)
            taken = start_from_weights_(segmenter, recipe.model) if recipe.model.weights and not resume else None
            card = new_card(recipe.model, train_set.classes, contract_of(recipe.data, segmenter.stride))
        else:
            segmenter, card, taken = start.segmenter, start.card, None
    on_ready()
    if taken is not None:
        on_weights(taken)
    if start is not None and not resume:
        keep_start(run, start)
    return fit(
        segmenter,
        recipe,
        run,
        train_set=train_set,
        val_set=val_set,
        card=card,
        observer=observer,
        resume=resume,
        held=True,
    )


def with_named_network(recipe: Recipe) -> Recipe:
    """Return a recipe whose network needs no folder of somebody's: what a run keeps.

    Raises:
        ModelError: the folder that the network is named by cannot be read.
    """
    named = recipe.model.model_copy(update={"name": named_by_settings(recipe.model.name)})
    return recipe.model_copy(update={"model": named})


def build_network(recipe: Recipe, num_classes: int, *, restored: bool = False) -> Segmenter:
    """Build the recipe's network; its initial weights depend on the recipe's seed alone.

    Args:
        recipe: the settings.
        num_classes: K, the background counted.
        restored: a checkpoint brings the weights, so no file with others is read.
    """
    model = recipe.model
    with seeded(recipe.train.seed):
        return build(
            model.name, num_classes=num_classes, head=model.head, pretrained=model.pretrained, restored=restored
        )


def start_from_weights_(segmenter: Segmenter, model: ModelConfig) -> WeightsReport:
    """Copy the weights of the recipe's file into a network that was built by the same recipe.

    Raises:
        ModelError: the file cannot be read, or does not fit; the network is as it was.
    """
    return load_weights_(
        segmenter.network,
        Path(model.weights),
        allow_missing=model.allow_missing,
        allow_unexpected=model.allow_unexpected,
        part=model.weights_part or None,
    )
