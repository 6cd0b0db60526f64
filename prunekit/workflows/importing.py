"""A network trained elsewhere, made a run: its weights as they are, its preprocessing, and what it scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prunekit.data.dataset import ClassMap, SegmentationDataset
from prunekit.data.labels.class_list import read_class_list
from prunekit.data.labels.counts import check_labels
from prunekit.data.registry import open_dataset
from prunekit.data.transforms import contract_of
from prunekit.errors import ConfigError
from prunekit.modelfile import ModelCard, new_card, save_model, sha256_of
from prunekit.models.own_preprocessing import OwnPreprocessing, own_preprocessing
from prunekit.models.segmenter import Segmenter
from prunekit.models.weights.loading import WeightsReport
from prunekit.progress import Progress, told
from prunekit.recipe import Recipe, parse_recipe
from prunekit.run import RunDirectory, write_json
from prunekit.training.device import cpu_threads, device_name, resolve_device
from prunekit.training.evaluate import evaluate
from prunekit.workflows.train import build_network, start_from_weights_, with_named_network

REPORT: Final = "import.json"
_PREPARED: Final = ("height", "width", "channels", "pixel_scale", "mean", "std")


@dataclass(frozen=True)
class ImportReport:
    """What came of an import."""

    weights: WeightsReport
    card: ModelCard
    images: int
    """Validation images that were looked at; 0 where no data was given."""
    miou: float | None
    pixel_accuracy: float | None
    iou: list[float | None]
    device: str


@dataclass(frozen=True)
class Prepared:
    """A recipe with the network's own preprocessing filled in, and where each of its values is from."""

    recipe: Recipe
    sources: dict[str, str]


def with_own_preprocessing(recipe: Recipe) -> Prepared:
    """Fill in what the library that builds the network knows of its images, where the recipe does not say it.

    Raises:
        ConfigError: nobody says how large the network's images are.
        ModelError: the network's name cannot be read.
    """
    said = recipe.data.model_fields_set
    own = own_preprocessing(recipe.model.name) or OwnPreprocessing({}, "")
    filled = {name: value for name, value in own.settings.items() if name not in said}
    if not {"height", "width"} <= said | filled.keys():
        raise ConfigError("The input size that the network was trained with is unknown. Give it: --size HEIGHTxWIDTH.")
    settings = recipe.model_dump()
    settings["data"] |= filled
    sources = {name: own.source if name in filled else "given" if name in said else "assumed" for name in _PREPARED}
    return Prepared(parse_recipe(settings), sources)


def import_run(
    recipe: Recipe,
    run: RunDirectory,
    *,
    on_weights: Callable[[WeightsReport], None] | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_progress: Progress | None = None,
    on_ready: Callable[[], None] | None = None,
    held: bool = False,
) -> ImportReport:
    """Make a finished run of the recipe's network and the weights of its file; no bit of them changes.

    Args:
        recipe: the network, the file, the preprocessing and the data, all the user's own. Without a folder of data
            (`data.root`) its class list says what the classes are, and nothing is evaluated.
        run: a new run; nothing is written before the weights are known to fit and to give numbers.
        on_weights: told what came from the file.
        on_image: told how many validation images are done, of how many.
        on_progress: told how far the check of the data is.
        on_ready: called once network, weights and data are known to fit.
        held: the caller holds the run's lock.

    Raises:
        ModelError: the file or the network cannot be used, or they do not fit.
        PrunekitError: the data or the device cannot be used.
    """
    recipe = with_named_network(recipe)
    device = resolve_device(recipe.train.device)
    with run.locked(held=held), cpu_threads(recipe.train), told(on_progress):
        val_set = None if only_classes(recipe) else open_dataset(recipe.data, "val", trust_code=True)
        if val_set is not None:
            check_labels(val_set, "val", recipe.data)
        classes = _classes(recipe) if val_set is None else val_set.classes
        segmenter = build_network(recipe, len(classes)).eval()
        weights = start_from_weights_(segmenter, recipe.model)
        if on_ready is not None:
            on_ready()
        if on_weights is not None:
            on_weights(weights)
        card = new_card(recipe.model, classes, contract_of(recipe.data, segmenter.stride))
        scores = {} if val_set is None else _scores(segmenter.to(device), recipe, card, val_set, on_image)
        return _written(run, recipe, segmenter.cpu(), card, weights, scores, 0 if val_set is None else len(val_set))


def only_classes(recipe: Recipe) -> bool:
    """Tell whether a recipe says what the classes are, and not where images of them lie."""
    return recipe.data.name == "folder" and not recipe.data.root and bool(recipe.data.classes)


def is_import(run: RunDirectory) -> bool:
    """Tell whether a run is an import, which has no training to go on with."""
    return (run.path / REPORT).exists()


def _classes(recipe: Recipe) -> ClassMap:
    data = recipe.data
    return read_class_list(Path(data.classes), data.mask_values, data.ignore_index).classes


def _scores(
    segmenter: Segmenter,
    recipe: Recipe,
    card: ModelCard,
    val_set: SegmentationDataset,
    on_image: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    device, size = resolve_device(recipe.train.device), recipe.train.batch_size
    confusion = evaluate(segmenter, val_set, card.contract, batch_size=size, device=device, on_batch=on_image)
    return confusion.to_json()


def _written(
    run: RunDirectory,
    recipe: Recipe,
    segmenter: Segmenter,
    card: ModelCard,
    weights: WeightsReport,
    scores: dict[str, Any],
    images: int,
) -> ImportReport:
    """Write the run; the model file, which makes it a finished one, comes last."""
    step: dict[str, Any] = {
        "step": "import",
        "file": weights.path.name,
        "file_sha256": sha256_of(weights.path),
        "tensors": weights.loaded,
        "left_as_built": list(weights.own),
    }
    run.write_recipe(recipe)
    write_json(run.path / REPORT, {**step, "left_out": list(weights.unused), "scores": scores})
    written = save_model(run, segmenter, card.followed_by(step))
    return ImportReport(
        weights=weights,
        card=written,
        images=images,
        miou=scores.get("miou"),
        pixel_accuracy=scores.get("pixel_accuracy"),
        iou=scores.get("iou", []),
        device=device_name(resolve_device(recipe.train.device)),
    )
