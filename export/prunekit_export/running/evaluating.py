"""mIoU of anything that runs: the same images, the same contract, the labels at their own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit.progress import tell, told
from prunekit_export.errors import ExportUsageError
from prunekit_export.running.runners import contract_for, open_runner
from prunekit_runtime.running.picturing import PictureModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prunekit.data.dataset import SegmentationDataset, Split
    from prunekit.data.labels.counts import LabelCounts
    from prunekit.metrics import ConfusionMatrix
    from prunekit.progress import Progress
    from prunekit.recipe import DataConfig
    from prunekit_runtime.preprocessing import Preprocessing
    from prunekit_runtime.running.runner import Runner


@dataclass(frozen=True)
class EvalReport:
    """What a model reaches on one split."""

    model: Path
    ran_on: str
    data: str
    split: str
    images: int
    classes: tuple[str, ...]
    metrics: dict[str, Any]
    """miou, pixel_accuracy, iou by class, pixels and absent_classes, as `ConfusionMatrix.to_json`."""
    labels: LabelCounts
    """How often each class occurs there."""


def evaluate_model(
    path: Path,
    *,
    data: DataConfig,
    split: Split = "val",
    provider: str | None = None,
    threads: int = 0,
    trust_code: bool = False,
    own_data: bool = False,
    on_image: Callable[[int, int], None] | None = None,
    on_progress: Progress | None = None,
    on_ready: Callable[[], None] | None = None,
) -> EvalReport:
    """Evaluate a run directory, an ONNX file or an engine on a split, image by image as a device would.

    Args:
        path: the model; an exported one needs its preprocessing.json beside it.
        data: the data set.
        split: train, val or test.
        provider: as `open_runner`.
        threads: CPU threads; 0 leaves the choice to the library.
        trust_code: run the python: code, factory and data set, of a run that others made.
        own_data: the data set was named by the user, so its code may run.
        on_image: told (images done, images) after each image.
        on_progress: told how far the check of the data is.
        on_ready: called once model and data are known to fit.

    Raises:
        PrunekitError: the model, its contract or the data set is not usable, or they do not belong together.
    """
    from prunekit.data.labels.counts import check_labels, count_labels
    from prunekit.data.registry import open_dataset

    with told(on_progress):
        dataset = open_dataset(data, split, trust_code=trust_code or own_data)
        check_labels(dataset, split, data)
    with open_runner(
        path, provider=provider, threads=threads, trust_code=trust_code, graph=None, rounding="all"
    ) as runner:
        contract = contract_for(runner, path)
        _check_names(path, dataset.classes.names, as_many=runner.graph == "labels")
        if on_ready is not None:
            on_ready()
        matrix = evaluate_runner(runner, dataset, contract, on_image=on_image)
        ran_on = runner.name
    names, labels = dataset.classes.names, count_labels(dataset)
    return EvalReport(path, ran_on, data.name, split, len(dataset), names, matrix.to_json(), labels)


def _check_names(path: Path, names: tuple[str, ...], *, as_many: bool) -> None:
    """Refuse the same number of classes under other names or in another order; a model may not know its names.

    How many classes logits have, they show; a graph that gives labels does not, so that its list must be as long.
    """
    from prunekit.modelfile import read_card
    from prunekit.run import RunDirectory, read_json

    beside = path.parent / "classes.json"
    if path.is_dir():
        known = list(read_card(RunDirectory(path)).class_names)
    elif beside.is_file():
        known = read_json(beside).get("names")
    else:
        return
    if as_many and isinstance(known, list) and len(known) != len(names):
        raise _other_number(len(known), len(names))
    if known != list(names) and isinstance(known, list) and len(known) == len(names):
        place = next(place for place, name in enumerate(names) if known[place] != name)
        raise ExportUsageError(
            f"Class {place} is {str(known[place])[:80]!r} in the model and {names[place]!r} in the data set. Evaluate "
            "with the model's class list, in its order: --set data.classes=FILE"
        )


def _other_number(got: int, wanted: int) -> ExportUsageError:
    return ExportUsageError(
        f"The model has {got} classes, the data set {wanted}. Name the data set it was trained on: --data, --root."
    )


def _tell(done: int, images: int) -> None:
    tell("Evaluating", done, images)


def evaluate_runner(
    runner: Runner,
    dataset: SegmentationDataset,
    contract: Preprocessing,
    *,
    on_image: Callable[[int, int], None] | None = None,
) -> ConfusionMatrix:
    """Return the confusion matrix of a runner over a data set.

    Raises:
        ExportError: the model has another number of classes than the data set.
        RunnerError: the images do not fit the model, or its logits are not finite, where it gives any.
    """
    import torch

    from prunekit.metrics import ConfusionMatrix

    matrix, model = ConfusionMatrix(len(dataset.classes), dataset.classes.ignore_index), PictureModel(runner, contract)
    for index in range(len(dataset)):
        sample = dataset[index]
        output_1 = model.compute(model.prepare(sample.image_3HW.permute(1, 2, 0).numpy()))
        if model.graph == "logits" and output_1.shape[1] != len(dataset.classes):
            raise _other_number(output_1.shape[1], len(dataset.classes))
        labels_HW = model.labels(output_1, *sample.labels_HW.shape)
        if labels_HW.max() >= len(dataset.classes):
            raise _other_number(int(labels_HW.max()) + 1, len(dataset.classes))
        matrix.update(sample.labels_HW, torch.from_numpy(labels_HW))
        (on_image or _tell)(index + 1, len(dataset))
    return matrix
