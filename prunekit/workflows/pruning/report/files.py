"""`prune.json`, which a pruning resumes from, and `prune.svg`."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from prunekit.errors import RunError
from prunekit.pruning.picture import StageChange, draw_report
from prunekit.run import RunDirectory, read_json, write_atomically, write_json
from prunekit.tomltext import shown
from prunekit.validation import first_sentence
from prunekit.workflows.pruning.config import PruneConfig
from prunekit.workflows.pruning.report.whole import DERIVED, PruneReport

REPORT: Final = "prune.json"
FIGURE: Final = "prune.svg"
FORMAT: Final = 2


def write_report(run: RunDirectory, report: PruneReport) -> None:
    """Replace the figure, then the report: the run resumes from the report."""
    criterion, removed = report.config["criterion"], report.ratio_realised
    title = f"{Path(report.source).name}: {removed:.1%} of the MACs removed by {criterion}"
    stages = [StageChange("source", report.macs_before, report.miou_dense)]
    stages += [StageChange(f"stage {stage.number}", stage.macs_after, stage.miou) for stage in report.standing]
    figure = draw_report(title, report.groups, report.parts, stages)
    write_atomically(run.path / FIGURE, figure.encode())
    write_json(run.path / REPORT, report.to_json())


def write_begun(run: RunDirectory, report: PruneReport) -> None:
    """Write the report of a pruning that nothing was written of yet; one that is there stays."""
    if not is_pruning(run):
        write_json(run.path / REPORT, report.to_json())


def read_report(run: RunDirectory) -> PruneReport:
    """Read `prune.json` back.

    Raises:
        RunError: it is missing or damaged, or another version wrote it.
    """
    path = run.path / REPORT
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise RunError(
            f"{path} has format {shown(values.get('format'))}, this prunekit reads {FORMAT}: another version wrote it. "
            "Prune again; the source run is unchanged."
        )
    stored = {name: value for name, value in values.items() if name not in DERIVED}
    try:
        report = TypeAdapter(PruneReport).validate_python(stored)
    except ValidationError as error:
        raise _damaged(path, first_sentence(error, PruneReport)) from None
    config = config_of(report, run)
    report = replace(report, config=config.model_dump(mode="json"))  # complete, where the file leaves out a default
    asked, planned, done = config.stage_count, len(report.planned), len(report.stages)
    in_order = [stage.number for stage in report.stages] == list(range(1, done + 1))
    if planned != asked or done > planned or not in_order or (report.finished and not done):
        raise RunError(
            f"{path} is damaged: its settings ask for {asked} stages, {planned} are planned and {done} described. "
            "Prune again; the source run is unchanged."
        )
    if (report.target == "latency") != (report.machine is not None):
        raise RunError(f"{path} is damaged: target and machine do not fit. Prune again; the source run is unchanged.")
    return report


def config_of(report: PruneReport, run: RunDirectory) -> PruneConfig:
    """Return the settings that a pruning was begun with.

    Raises:
        RunError: they are damaged.
    """
    try:
        return PruneConfig.model_validate(report.config)
    except ValidationError as error:
        raise _damaged(run.path / REPORT, f"config.{first_sentence(error, PruneConfig)}") from None


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path} is damaged: {reason}. Prune again; the source run is unchanged.")


def is_pruning(run: RunDirectory) -> bool:
    """Tell whether `run` holds a pruning that can be gone on with."""
    return (run.path / REPORT).exists()
