"""Pruning a trained run: analyse, measure redundancy on data, choose, cut, prove, fine-tune."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import eval_batches
from prunekit.data.registry import open_dataset
from prunekit.errors import RunError
from prunekit.modelfile import LoadedModel, load_model, save_model
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.allocation import uniform_keep
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria import Scores, clique_scores, l2_scores, random_scores
from prunekit.pruning.plan import Plan, make_plan
from prunekit.pruning.redundancy import collect
from prunekit.pruning.surgery import prune_
from prunekit.pruning.verify import verify
from prunekit.recipe import Recipe, Section
from prunekit.run import RunDirectory, read_json, write_json
from prunekit.training.device import cpu_threads, resolve_device
from prunekit.training.evaluate import evaluate
from prunekit.training.events import Observer
from prunekit.training.loop import fit

REPORT = "prune.json"
Stage = Callable[[str], None]


class PruneConfig(Section):
    """How a run is pruned."""

    ratio: float = Field(0.5, gt=0, lt=1, description="share of the MACs to remove")
    criterion: Literal["sirfp", "l2", "random"] = Field("sirfp", description="which channels go")
    align: int = Field(8, ge=1, description="channel counts are kept multiples of this")
    epochs: int = Field(10, ge=0, description="epochs of fine-tuning; 0 leaves the network as cut")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of the fine-tuning")
    batches: int = Field(16, ge=1, description="batches the channel statistics are collected on")
    seed: int = Field(0, ge=0, description="seed of choice, order and augmentation")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(None, description="autocast type; None keeps the run's")
    device: Literal["auto", "cpu", "cuda"] | None = Field(None, description="None keeps the run's")
    threads: int | None = Field(None, ge=0, description="CPU threads; None keeps the run's")


@dataclass(frozen=True)
class LayerRow:
    """One layer before and after."""

    name: str
    channels_before: int
    channels_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class PruneReport:
    """What was removed, and what it cost."""

    source: str
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    ratio_realised: float
    """Share of the source network's MACs that is gone."""
    layers: tuple[LayerRow, ...]
    frozen: tuple[tuple[str, str], ...]
    """Groups that stay whole, and why."""
    exactness: float
    """Largest relative difference between the pruned and the masked network, float32."""
    miou_before: float | None
    miou_pruned: float | None
    """Right after the cut, before any fine-tuning."""
    miou_after: float | None
    """After fine-tuning; None until it is done."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Job:
    """What all steps of one pruning share."""

    recipe: Recipe
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    device: torch.device
    stage: Stage


def prune_run(
    source: RunDirectory,
    config: PruneConfig,
    target: RunDirectory,
    *,
    observer: Observer | None = None,
    on_stage: Stage | None = None,
    trust_code: bool = False,
) -> PruneReport:
    """Prune the model of `source`, fine-tune it by its own recipe, and write the result to `target`.

    Args:
        source: a trained run; stays as it is.
        config: what to remove and how to train on.
        target: a new run. `pruned/` in it holds the network as cut, `prune.json` the report.
        observer: told about each step of the fine-tuning.
        on_stage: told what is being done.
        trust_code: allow a factory outside prunekit, which runs that package's code.

    Raises:
        PruneError: the network cannot be analysed, the ratio is out of reach, or the cut network is not exact.
        PrunekitError: the source, its data or the device cannot be used.
    """
    loaded = load_model(source, trust_code=trust_code)
    job = _job(_fine_tuning_recipe(source.recipe(), config), on_stage or _silent)
    with cpu_threads(job.recipe.train):
        report = _cut(loaded, source, config, target, job)
        return _fine_tune(target, report, job, observer, trust_code)


def resume_prune(
    target: RunDirectory,
    *,
    observer: Observer | None = None,
    on_stage: Stage | None = None,
    trust_code: bool = False,
) -> PruneReport:
    """Go on with the fine-tuning of a pruning that was interrupted after the cut.

    Raises:
        RunError: the cut itself was not finished.
    """
    if not is_pruning(target):
        raise RunError(f"{target.path} was interrupted before its cut was written. Prune again; nothing is lost.")
    job = _job(target.recipe(), on_stage or _silent)
    with cpu_threads(job.recipe.train):
        return _fine_tune(target, read_report(target), job, observer, trust_code)


def is_pruning(run: RunDirectory) -> bool:
    """Tell whether `run` holds a finished cut."""
    return (run.path / REPORT).exists() and _as_cut(run).model_path.exists()


def read_report(run: RunDirectory) -> PruneReport:
    """Read `prune.json` back."""
    values = read_json(run.path / REPORT)
    try:
        layers = tuple(LayerRow(**row) for row in values.pop("layers"))
        frozen = tuple((name, reason) for name, reason in values.pop("frozen"))
        return PruneReport(layers=layers, frozen=frozen, **values)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.path / REPORT} is damaged: {error}. Prune again.") from None


def _silent(_: str) -> None:
    """Say nothing."""


def _as_cut(target: RunDirectory) -> RunDirectory:
    return RunDirectory(target.path / "pruned")


def _fine_tuning_recipe(recipe: Recipe, config: PruneConfig) -> Recipe:
    """Return the source's recipe with the fine-tuning's settings; every sample is trained on."""
    changed: dict[str, Any] = {"epochs": max(1, config.epochs), "lr": config.lr, "seed": config.seed}
    changed |= {key: value for key in ("precision", "device", "threads") if (value := getattr(config, key)) is not None}
    selection = recipe.selection.model_copy(update={"strategy": "none"})
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changed), "selection": selection})


def _job(recipe: Recipe, stage: Stage) -> _Job:
    device = resolve_device(recipe.train.device)
    return _Job(recipe, open_dataset(recipe.data, "train"), open_dataset(recipe.data, "val"), device, stage)


def _cut(
    loaded: LoadedModel, source: RunDirectory, config: PruneConfig, target: RunDirectory, job: _Job
) -> PruneReport:
    """Choose and remove channels, prove the result, write it; return the report so far."""
    segmenter = loaded.segmenter.to(job.device)
    job.stage("Evaluating the network before")
    miou_before = _miou(segmenter, loaded, job)
    job.stage("Analysing which channels belong together")
    images_13HW = _example(loaded, job)
    coupling = analyse(segmenter.network, (images_13HW,))
    scores = _scores(segmenter, loaded, coupling, config, job)
    keep = uniform_keep(coupling, config.ratio, config.align, scores)
    plan = make_plan(coupling, keep)
    job.stage("Proving that the cut network equals the masked one")
    error = verify(segmenter.network.eval(), plan, coupling, (images_13HW,))
    prune_(segmenter.network, plan)
    job.stage("Evaluating the network as cut")
    report = _report(coupling, keep, source, error, miou_before, _miou(segmenter, loaded, job))
    _write_cut(segmenter, loaded, plan, config, report, target, job)
    return report


def _scores(segmenter: Segmenter, loaded: LoadedModel, coupling: Coupling, config: PruneConfig, job: _Job) -> Scores:
    if config.criterion == "l2":
        return l2_scores(coupling, segmenter.network)
    if config.criterion == "random":
        return random_scores(coupling, config.seed)
    job.stage(f"Measuring how channels repeat each other on {config.batches} batches")
    batches = _statistics_batches(loaded, config, job)
    redundancy = collect(segmenter.network, coupling, batches, seed=config.seed, forward=segmenter)
    return clique_scores(coupling, redundancy)


def _statistics_batches(loaded: LoadedModel, config: PruneConfig, job: _Job) -> Iterator[Tensor]:
    """Yield training images spread evenly over the data set, unaugmented: neighbours in a video are alike."""
    size = job.recipe.train.batch_size
    step = max(1, len(job.train_set) // (size * config.batches))
    spread = _Every(job.train_set, step)
    for batch in islice(eval_batches(spread, loaded.contract, batch_size=size), config.batches):
        yield batch.images_B3HW.to(job.device)


class _Every:
    """Every n-th sample of a data set."""

    def __init__(self, dataset: SegmentationDataset, step: int) -> None:
        self.dataset, self.step, self.classes = dataset, step, dataset.classes

    def __len__(self) -> int:
        return (len(self.dataset) + self.step - 1) // self.step

    def __getitem__(self, index: int) -> Any:
        if index >= len(self):
            raise IndexError(index)
        return self.dataset[index * self.step]


def _example(loaded: LoadedModel, job: _Job) -> Tensor:
    """Return one validation image as the network gets it, its size a multiple of the network's stride."""
    batch = next(iter(eval_batches(job.val_set, loaded.contract, batch_size=1)))
    return batch.images_B3HW.to(job.device)


def _miou(segmenter: Segmenter, loaded: LoadedModel, job: _Job) -> float | None:
    confusion = evaluate(
        segmenter, job.val_set, loaded.contract, batch_size=job.recipe.train.batch_size, device=job.device
    )
    return confusion.to_json()["miou"]


def _report(
    coupling: Coupling,
    keep: dict[str, list[int]],
    source: RunDirectory,
    error: float,
    miou_before: float | None,
    miou_pruned: float | None,
) -> PruneReport:
    before, after = coupling.macs(), coupling.macs(keep)
    return PruneReport(
        source=str(source.path),
        macs_before=before,
        macs_after=after,
        params_before=coupling.params(),
        params_after=coupling.params(keep),
        ratio_realised=1 - after / before,
        layers=_layers(coupling, keep),
        frozen=_whole(coupling),
        exactness=error,
        miou_before=miou_before,
        miou_pruned=miou_pruned,
        miou_after=None,
    )


def _whole(coupling: Coupling) -> tuple[tuple[str, str], ...]:
    """Return what stays whole and why: frozen groups, and parameters that no traced graph uses."""
    groups = [(group.name, group.frozen) for group in coupling.groups if group.frozen is not None]
    return (*groups, *((name, "is used by no graph that could be traced") for name in coupling.unseen))


def _layers(coupling: Coupling, keep: dict[str, list[int]]) -> tuple[LayerRow, ...]:
    """Return a row for every layer that makes channels, in the order of execution."""
    removed = coupling.removed(keep)
    macs_before, macs_after = coupling.layer_macs(), coupling.layer_macs(keep)
    rows: dict[str, LayerRow] = {}
    for slot in coupling.slots:
        name = slot.parameter.rpartition(".")[0]
        if slot.role == "out" and name not in rows and name in macs_before:
            left = int((~removed[slot.labels]).sum())
            rows[name] = LayerRow(name, len(slot.labels), left, macs_before[name], macs_after[name])
    return tuple(rows.values())


def _write_cut(
    segmenter: Segmenter,
    loaded: LoadedModel,
    plan: Plan,
    config: PruneConfig,
    report: PruneReport,
    target: RunDirectory,
    job: _Job,
) -> None:
    earlier = loaded.card.plan
    whole = plan if earlier is None else Plan.from_json(earlier).then(plan)
    step = {
        "step": "prune",
        "source": Path(report.source).name,
        **config.model_dump(),
        "realised": report.ratio_realised,
    }
    card = loaded.card.followed_by(step).model_copy(update={"plan": whole.to_json()})
    target.write_recipe(job.recipe)
    save_model(_as_cut(target), segmenter.cpu(), card)
    write_json(target.path / REPORT, report.to_json())


def _fine_tune(
    target: RunDirectory, report: PruneReport, job: _Job, observer: Observer | None, trust_code: bool
) -> PruneReport:
    """Train the cut network on, and finish the report."""
    loaded = load_model(_as_cut(target), trust_code=trust_code)
    epochs = loaded.card.lineage[-1]["epochs"]
    if epochs == 0:
        save_model(target, loaded.segmenter, loaded.card)
        return report
    job.stage(f"Fine-tuning for {epochs} epochs")
    result = fit(
        loaded.segmenter,
        job.recipe,
        target,
        train_set=job.train_set,
        val_set=job.val_set,
        card=loaded.card,
        observer=observer,
    )
    report = replace(report, miou_after=result.miou)
    write_json(target.path / REPORT, report.to_json())
    return report
