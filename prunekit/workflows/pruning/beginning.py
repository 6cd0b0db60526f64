"""What is found out before the first cut: whether the pruning can be done at all, the soonest known first."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prunekit.data.labels.counts import check_labels
from prunekit.data.loading import steps_per_epoch
from prunekit.errors import PruneUsageError
from prunekit.modelfile import LoadedModel
from prunekit.run import RunDirectory
from prunekit.workflows.pruning.analysing import Analysed, analysed, needs_images
from prunekit.workflows.pruning.cutting import parts_of, settled_miou, whole_groups
from prunekit.workflows.pruning.job import Job
from prunekit.workflows.pruning.report import FORMAT, PruneReport
from prunekit.workflows.pruning.schedule import shares
from prunekit.workflows.pruning.selecting import check_reachable, check_target, cost_of, final_target, table_of


def begin(
    loaded: LoadedModel, source: RunDirectory, job: Job, on_ready: Callable[[], None]
) -> tuple[Analysed, PruneReport]:
    """Analyse the source and refuse what cannot be done; nothing is written yet.

    A target in MACs or parameters is held against the network's coupling before any data is read, where the network's
    input has a size of its own. Layers are timed, which takes minutes, when the data is known to fit.
    """
    timed = job.config.target_kind == "latency"
    now = None if timed or needs_images(loaded) else _within_reach(loaded, job)
    _check_data(job)
    if timed:
        on_ready()
    now = now or _within_reach(loaded, job)
    if timed:
        table_of(now).check_network(now.network)
    cost = cost_of(now, job)
    wanted = final_target(job.config).wanted(cost)
    planned = shares(job.config, 1 - wanted / cost)
    if len(planned) > 1 or job.config.sparsity != "none":
        check_reachable(now, job)
    if not timed:
        on_ready()
    job.tell("Evaluating the network before")
    miou = job.miou(loaded.segmenter, loaded)
    _check_floor(miou, job)
    return now, PruneReport(
        format=FORMAT,
        source=str(source.path.absolute()),
        source_relative=os.path.relpath(source.path.absolute(), job.target.path.absolute()),
        source_sha256=loaded.card.weights_sha256,
        config=job.config.model_dump(mode="json"),
        target=job.config.target_kind,
        cost_before=cost,
        cost_wanted=wanted,
        macs_before=now.coupling.macs(),
        params_before=now.coupling.params(),
        frozen=whole_groups(now.coupling),
        parts_before=parts_of(now.coupling.layer_macs()),
        miou_before=miou,
        miou_settled=_settled(loaded, job),
        planned=planned,
        machine=table_of(now).machine if timed else None,
    )


def _within_reach(loaded: LoadedModel, job: Job) -> Analysed:
    data = job.recipe.data
    if not (data.root and Path(data.root).is_dir()):
        _ = job.val_set  # generated, or not there, which is known at once
    now = analysed(loaded, job)
    check_target(now, job)
    return now


def _check_data(job: Job) -> None:
    if job.config.epochs or job.config.stage_epochs or job.config.sparsity != "none":
        steps_per_epoch(job.train_set, job.recipe.train.batch_size)
        check_labels(job.train_set, "train", job.recipe.data, training=True)
    check_labels(job.val_set, "val", job.recipe.data)


def _settled(loaded: LoadedModel, job: Job) -> float | None:
    """Evaluate a copy of the source with its batch norms re-estimated; None where that is not asked for."""
    if not job.config.bn_batches:
        return None
    return settled_miou(replace(loaded, segmenter=copy.deepcopy(loaded.segmenter)), job, "before, so settled")


def _check_floor(miou: float | None, job: Job) -> None:
    floor = job.config.min_miou
    if floor is not None and (miou is None or miou < floor):
        found = "cannot be measured" if miou is None else f"is {miou:.4f}"
        raise PruneUsageError(
            f"The network before pruning must reach the floor of {floor:g} itself; its validation mIoU {found}. "
            "Lower --min-miou, or leave it out."
        )
