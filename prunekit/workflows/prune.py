"""Pruning a trained run: stage by stage, analyse, choose, cut, prove, fine-tune; each stage written, none done twice.

In the run: `recipe.toml` (of the last fine-tuning), `prune.json` (settings, and what each stage did) with `prune.svg`,
`sparse/` (a training before the first cut), `stage-01/`, ... (all stages but the last) with their `pruned/` (as cut),
and the last stage's files in the run itself.
"""

from collections.abc import Callable
from dataclasses import replace

from prunekit.data.own.finding import check_trusted
from prunekit.errors import RunUsageError
from prunekit.modelfile import load_model, save_model
from prunekit.progress import Progress, told
from prunekit.pruning.criteria import CRITERIA as CRITERIA
from prunekit.pruning.criteria import criterion_named
from prunekit.pruning.latency import LatencyTable
from prunekit.run import RunDirectory
from prunekit.training.device import cpu_threads
from prunekit.training.events import Observer
from prunekit.training.snapshots import check_rewind
from prunekit.workflows.pruning.analysing import Analysed, analysed
from prunekit.workflows.pruning.beginning import begin
from prunekit.workflows.pruning.config import PruneConfig as PruneConfig
from prunekit.workflows.pruning.config import fine_tuning_recipe
from prunekit.workflows.pruning.cutting import choose, cut_, write_cut
from prunekit.workflows.pruning.job import Job, LatencyMeter, Tell
from prunekit.workflows.pruning.report import FIGURE as FIGURE
from prunekit.workflows.pruning.report import REPORT as REPORT
from prunekit.workflows.pruning.report import LayerRow as LayerRow
from prunekit.workflows.pruning.report import PruneReport as PruneReport
from prunekit.workflows.pruning.report import StageReport as StageReport
from prunekit.workflows.pruning.report import config_of, write_begun, write_report
from prunekit.workflows.pruning.report import is_pruning as is_pruning
from prunekit.workflows.pruning.report import read_report as read_report
from prunekit.workflows.pruning.resuming import check_criterion, find_source, is_whole, recipe_of
from prunekit.workflows.pruning.selecting import Selection, table_of
from prunekit.workflows.pruning.sparse import read_selection, sparsify, write_selection
from prunekit.workflows.pruning.tuning import tune


def prune_run(
    source: RunDirectory,
    config: PruneConfig,
    target: RunDirectory,
    *,
    observer: Observer | None = None,
    on_stage: Tell | None = None,
    trust_code: bool = False,
    table: LatencyTable | None = None,
    meter: LatencyMeter | None = None,
    held: bool = False,
    on_progress: Progress | None = None,
    on_ready: Callable[[], None] | None = None,
) -> PruneReport:
    """Prune the model of `source`, fine-tune it by its own recipe, and write the result to `target`.

    Args:
        source: a trained run; stays as it is.
        config: what to remove and how to train on.
        target: a new run, locked from the start; nothing is written to it before the first cut is proved.
        observer: told about each step of the fine-tuning.
        on_stage: told what is being done.
        trust_code: allow a factory outside prunekit, which runs that package's code.
        table: latency of the source's layers on the machine at hand, for a target in milliseconds.
        meter: measures such a table for every stage instead, and each cut network, until the target is met.
        held: the caller holds the target's lock.
        on_progress: told how far each step is that has parts.
        on_ready: called once settings, network, target and data are known to fit.

    Raises:
        PruneError: the network cannot be analysed, the target is out of reach, or a cut network is not exact.
        RunError: the target holds something already, or another process is writing to it.
        PrunekitError: the source, its data or the device cannot be used.
    """
    recipe = fine_tuning_recipe(source.recipe(), config)
    if not trust_code:
        check_trusted(recipe.data, source.recipe_path)
    if config.init == "rewind":
        check_rewind(source)
    criterion_named(config.criterion)  # one that cannot be imported stops here, not after the analysis
    job = Job(target, config, recipe, on_stage or _silent, observer, trust_code, table, meter)
    with target.locked(held=held), cpu_threads(recipe.train), told(on_progress):
        if not target.is_empty():
            raise RunUsageError(f"{target.path} is not empty. Name a new folder; nothing is ever overwritten.")
        job.tell("Loading the run")
        loaded = load_model(source, trust_code=trust_code)
        now, report = begin(loaded, source, job, on_ready or (lambda: None))
        return _go_on(report, source, job, now)


def resume_prune(
    target: RunDirectory,
    *,
    observer: Observer | None = None,
    on_stage: Tell | None = None,
    trust_code: bool = False,
    table: LatencyTable | None = None,
    meter: LatencyMeter | None = None,
    root: str | None = None,
    on_progress: Progress | None = None,
) -> PruneReport:
    """Go on with a pruning that was interrupted; of one that is finished, only a damaged model is written anew.

    Args:
        target: the run.
        observer: told about each step of the fine-tuning.
        on_stage: told what is being done.
        trust_code: allow a factory outside prunekit, which runs that package's code.
        table: as for `prune_run`; it or a meter is needed as long as `needs_latency` says so.
        meter: as for `prune_run`.
        root: folder of the data set, where it is no longer where the run says.
        on_progress: as for `prune_run`.

    Raises:
        RunError: nothing was written that could be gone on with, the source is gone or another one, latency was
            measured on another machine, or another process is at it.
        PrunekitError: as `prune_run`.
    """
    if not is_pruning(target):
        if target.model_path.exists() or target.metrics_path.exists():
            raise RunUsageError(
                f"{target.path} is a training run. Continue it with: prunekit train --resume {target.path}"
            )
        raise RunUsageError(
            f"{target.path} was interrupted before its first cut was written. Prune again; nothing is lost."
        )
    with target.locked():
        report = read_report(target)
        if report.finished and is_whole(target):
            return report
        config = config_of(report, target)
        check_criterion(config, target, trust_code)
        recipe = recipe_of(report, config, target, root)
        if not trust_code:
            check_trusted(recipe.data, target.recipe_path)
        job = Job(target, config, recipe, on_stage or _silent, observer, trust_code, table, meter)
        with cpu_threads(recipe.train), told(on_progress):
            source = find_source(report, target)
            return _mended(report, source, job) if report.finished else _go_on(report, source, job, None)


def _mended(report: PruneReport, source: RunDirectory, job: Job) -> PruneReport:
    """Write the final model anew, from the last state of its training or from what was cut."""
    job.tell("Writing the damaged model again")
    if report.rolled_back:
        _take_back(report, source, job)
    else:
        report = report.with_stage(tune(report.stages[-1], source, job))
        write_report(job.target, report)
    return report


def needs_latency(report: PruneReport) -> bool:
    """Tell whether going on takes a latency table or a meter: a target in milliseconds, and stages left to cut."""
    return report.target == "latency" and not report.finished and len(report.stages) < len(report.planned)


def _silent(_: str) -> None:
    """Say nothing."""


def _go_on(report: PruneReport, source: RunDirectory, job: Job, now: Analysed | None) -> PruneReport:
    """Do what is left of the stages; `now` is the source network, if it was analysed a moment ago."""
    for number in range(1, len(report.planned) + 1):
        if number > len(report.stages):
            report = _cut_stage(report, source, job, now)
        now = None
        stage = report.stages[number - 1]
        if not stage.tuned:
            stage = tune(stage, source, job)
            report = report.with_stage(stage)
            write_report(job.target, report)
        if (reason := _below_floor(stage, job)) is not None:
            report = replace(report, rolled_back=reason)
            _take_back(report, source, job)
            break
    report = replace(report, finished=True)
    write_report(job.target, report)
    return report


def _cut_stage(report: PruneReport, source: RunDirectory, job: Job, now: Analysed | None) -> PruneReport:
    """Cut the next stage and write it: recipe, network, report, in this order, for the report is what is resumed.

    Before the first of them the report without the stage is written, so that a kill at any instant can be resumed.
    """
    number, decided = len(report.stages) + 1, None
    if number == 1 and job.config.sparsity != "none":
        now, decided = _made_sparse(report, source, job, now)
    elif now is None:
        before = source if number == 1 else job.stage_run(number - 1)
        now = analysed(load_model(before, trust_code=job.trust_code), job)
    if report.machine is not None:
        table_of(now).check_machine(report.machine)
    if len(report.planned) > 1:
        job.tell(f"Stage {number} of {len(report.planned)}")
    plan, stage = cut_(now, report, job, decided)
    write_begun(job.target, report)
    job.target.write_recipe(job.recipe)
    write_cut(job.cut_run(number), now.loaded, plan, stage, report.macs_before, job)
    report = report.with_stage(stage)
    write_report(job.target, report)
    return report


def _made_sparse(
    report: PruneReport, source: RunDirectory, job: Job, now: Analysed | None
) -> tuple[Analysed, Selection | None]:
    """Train the source towards sparsity; for the pull on what goes alone, choose that first and keep to it."""
    now = now or analysed(load_model(source, trust_code=job.trust_code), job)
    chosen = None
    if job.config.sparsity == "mask":
        chosen = read_selection(job.sparse_run) or choose(now, report, job)
    write_begun(job.target, report)
    job.target.write_recipe(job.recipe)
    if chosen is not None:
        write_selection(job.sparse_run, chosen)
    return analysed(sparsify(now, chosen, job), job), chosen


def _below_floor(stage: StageReport, job: Job) -> str | None:
    """Return why a stage is to be taken back, or None."""
    floor = job.config.min_miou
    if floor is None or (stage.miou is not None and stage.miou >= floor):
        return None
    found = "no validation pixel counts" if stage.miou is None else f"its validation mIoU is {stage.miou:.4f}"
    return f"stage {stage.number}, {stage.share:.1%} removed: {found}, below the floor of {floor:g}"


def _take_back(report: PruneReport, source: RunDirectory, job: Job) -> None:
    """Make the network before the last stage the run's result."""
    number = len(report.stages) - 1
    loaded = load_model(source if number == 0 else job.stage_run(number), trust_code=job.trust_code)
    job.tell(f"Undoing {report.rolled_back}")
    save_model(job.target, loaded.segmenter, loaded.card)
