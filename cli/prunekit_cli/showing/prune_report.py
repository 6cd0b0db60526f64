"""What `prunekit prune` shows: what it is about to do, the criteria, and what became of the network."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.prune_details import cost_of, show_details

if TYPE_CHECKING:
    from collections.abc import Callable

    from prunekit.run import RunDirectory
    from prunekit.workflows.prune import PruneConfig, PruneReport
    from prunekit_cli.showing.progress import Progress

MOST_GROUPS: Final = 5  # of those that lost most; with them the result fits a screen


def announce(source: "RunDirectory", config: "PruneConfig", target: "RunDirectory", progress: "Progress") -> None:
    """Say what is about to be done, and which option changes it."""
    rows = [
        Setting("source", str(source.path), "RUN"),
        Setting("target", _target(config), "--ratio --target-macs --target-params --target-latency"),
        Setting("criterion", f"{config.criterion}, {config.allocation} allocation", "--criterion --allocation"),
        Setting("channel counts", f"multiples of {config.align}", "--align"),
        Setting("statistics", f"{config.batches} batches", "--batches"),
        Setting("schedule", f"{config.schedule}, stages: {config.stage_count}", "--schedule --steps --stages"),
        Setting("before the cut", _before(config), "--sparsity --compensate"),
        Setting("after the cut", _after(config), "--bn-batches --init --distill"),
        Setting("fine-tuning", _tuning(config), "--epochs --stage-epochs --lr --loss --sampler --set"),
        Setting("mIoU floor", "none" if config.min_miou is None else f"{config.min_miou:g}", "--min-miou"),
        Setting("seed", str(config.seed), "--seed"),
        Setting("run", str(target.path), "--out"),
    ]
    progress.settings("Pruning", rows)


def _target(config: "PruneConfig") -> str:
    value = config.target_value
    return {
        "ratio": f"{formats.percent(value)} of the MACs go",
        "macs": f"{formats.quantity(value)} MACs remain",
        "params": f"{formats.quantity(value)} parameters remain",
        "latency": f"{formats.milliseconds(value)} remain",
    }[config.target_kind]


def _before(config: "PruneConfig") -> str:
    epochs = "" if config.sparsity == "none" else f" for {formats.counted(config.sparsity_epochs, 'epoch')}"
    return f"sparsity {config.sparsity}{epochs}, compensation {config.compensate}"


def _after(config: "PruneConfig") -> str:
    norms = f"batch norms on {config.bn_batches} batches" if config.bn_batches else "batch norms as they are"
    return f"{norms}, weights {config.init}, distillation {config.distill}"


def _tuning(config: "PruneConfig") -> str:
    between = "" if config.stage_count == 1 else f", {config.stage_epochs} after each earlier stage"
    loss = "" if config.loss is None else f", loss {config.loss}"
    return f"{formats.counted(config.epochs, 'epoch')}{between}, at learning rate {config.lr:g}{loss}"


def show_criteria(as_json: bool) -> None:
    """Show every criterion: what it measures, where that comes from, how it spreads the cut, what it reads."""
    from prunekit.workflows.prune import CRITERIA

    if as_json:
        rows = [(row.name, row.summary, row.allocation, sorted(row.needs)) for row in CRITERIA.values()]
        output.show_json([dict(zip(("name", "summary", "allocation", "needs"), row, strict=True)) for row in rows])
        return
    rows = [
        (row.name, row.summary, row.allocation, "+".join(("weights", *sorted(row.needs)))) for row in CRITERIA.values()
    ]
    output.show(
        Table("Criteria (--criterion)", ("name", "what it measures", "--allocation auto", "reads"), rows, texts=True)
    )


def show(report: "PruneReport", path: Path, *, as_json: bool, verbose: bool, trust: str = "") -> None:
    """Show what was reached, and with `verbose` where every channel went.

    Args:
        report: of the pruning.
        path: the run.
        as_json: all of it for programs.
        verbose: every group, layer, reason and stage too.
        trust: what a command that loads the run needs besides its name.
    """
    if as_json:
        output.show_json({"run": path, "report": report.to_json()})
        return
    _show_reached(report, path)
    _show_scores(report)
    _show_most(report)
    if verbose:
        show_details(report)
    else:
        output.result(f"Every group, layer, reason and stage: prunekit prune --resume {path} --verbose{trust}")
    output.result(f"The same as numbers: {path / 'prune.json'}; drawn: {path / 'prune.svg'}")
    output.say(f"Next: prunekit export {path}{trust}")


def _show_reached(report: "PruneReport", path: Path) -> None:
    rows = [
        _change("MACs", formats.quantity, report.macs_before, report.macs_after),
        _change("params", formats.quantity, report.params_before, report.params_after),
    ]
    if report.target == "latency" and report.standing:
        last = report.standing[-1]
        measured = last.latency_measured_ms
        name = "latency, predicted" if measured is None else "latency"
        after_ms = last.cost_predicted if measured is None else measured
        rows.append(_change(name, formats.milliseconds, report.cost_before, after_ms))
    output.show(Table(f"Pruned {path}", ("", "dense", "pruned", "removed"), rows))


def _change(name: str, shown: "Callable[[float], str]", before: float, after: float) -> tuple[str, ...]:
    return (name, shown(before), shown(after), formats.percent(1 - after / before))


def _show_scores(report: "PruneReport") -> None:
    scores = f"{formats.score(report.miou_before)} dense -> {formats.score(report.miou_pruned)} pruned"
    tuned = report.miou_after is not None or any(stage.epochs for stage in report.standing)
    tuning = f" -> {formats.score(report.miou_after)} fine-tuned" if tuned else ", not fine-tuned"
    output.result(f"Validation mIoU: {scores}{tuning}")
    if report.miou_settled is not None:
        settled = formats.score(report.miou_settled)
        output.result(f"Dense, with its batch norms measured anew like those of the pruned network: {settled}")
    output.result(f"Exactness: largest difference from the masked network {report.exactness:.1e}")
    for stage in report.standing:
        if stage.misses_latency:
            wanted = cost_of(report, stage.cost_wanted)
            output.result(f"Stage {stage.number} misses {wanted}: no channel counts that were tried measure nearer.")
    if report.rolled_back is not None:
        output.result(f"Taken back: {report.rolled_back}. The run holds the network before that stage.")


def _show_most(report: "PruneReport") -> None:
    """Show the groups that lost the largest share of their units."""
    lost = [group for group in report.groups if group.width_after < group.width_before]
    most = sorted(lost, key=lambda group: group.width_after / group.width_before)[:MOST_GROUPS]
    rows = [
        (
            group.name,
            f"{group.width_before} -> {group.width_after}",
            formats.percent(1 - group.width_after / group.width_before),
        )
        for group in most
    ]
    if rows:
        title = f"Lost most, of {len(lost)} groups that lost channels"
        output.show(Table(title, ("group", "units", "removed"), rows))
    kept = len(report.groups) - len(lost) + len(report.frozen)
    if kept:
        output.result(f"{kept} groups stay whole; {len(report.frozen)} of them cannot be cut.")
