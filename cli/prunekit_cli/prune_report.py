"""What `prunekit prune` shows: what it is about to do, the criteria, and what became of the network."""

from typing import TYPE_CHECKING

from prunekit_cli import formats, output
from prunekit_cli.output import Setting, Table

if TYPE_CHECKING:
    from prunekit.run import RunDirectory
    from prunekit.workflows.prune import PruneConfig, PruneReport


def announce(source: "RunDirectory", config: "PruneConfig", target: "RunDirectory") -> None:
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
    output.settings("Pruning", rows)


def _target(config: "PruneConfig") -> str:
    value = config.target_value
    return {
        "ratio": f"{formats.percent(value)} of the MACs go",
        "macs": f"{formats.quantity(value)} MACs remain",
        "params": f"{formats.quantity(value)} parameters remain",
        "latency": f"{formats.milliseconds(value)} remain",
    }[config.target_kind]


def _before(config: "PruneConfig") -> str:
    epochs = "" if config.sparsity == "none" else f" for {config.sparsity_epochs} epochs"
    return f"sparsity {config.sparsity}{epochs}, compensation {config.compensate}"


def _after(config: "PruneConfig") -> str:
    norms = f"batch norms on {config.bn_batches} batches" if config.bn_batches else "batch norms as they are"
    return f"{norms}, weights {config.init}, distillation {config.distill}"


def _tuning(config: "PruneConfig") -> str:
    between = "" if config.stage_count == 1 else f", {config.stage_epochs} after each earlier stage"
    loss = "" if config.loss is None else f", loss {config.loss}"
    return f"{config.epochs} epochs{between}, at learning rate {config.lr:g}{loss}"


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


def show(report: "PruneReport", target: "RunDirectory", as_json: bool) -> None:
    """Show what was removed and what it cost."""
    if as_json:
        output.show_json({"run": target.path, "report": report.to_json()})
        return
    _show_groups(report)
    _show_layers(report)
    if report.frozen:
        output.show(Table("Left whole", ("group", "reason"), report.frozen))
    _show_parts(report)
    _show_padding(report)
    _show_stages(report)
    _show_totals(report)
    for stage in report.standing:
        if stage.misses_latency:
            wanted = formats.milliseconds(stage.cost_wanted)
            output.result(f"Stage {stage.number} misses {wanted}: no channel counts that were tried measure nearer.")
    if report.rolled_back is not None:
        output.result(f"Taken back: {report.rolled_back}. The run holds the network before that stage.")
    output.say(f"Picture: {target.path / 'prune.svg'}; all numbers: {target.path / 'prune.json'}")
    output.say(f"Next: prunekit export {target.path}")


def _show_groups(report: "PruneReport") -> None:
    rows = [
        (
            group.name,
            f"{group.width_before} -> {group.width_after}",
            f"{_cosine(group.redundancy_before)} -> {_cosine(group.redundancy_after)}",
        )
        for group in report.groups
    ]
    output.show(Table("Channel groups", ("group", "units", "mean redundancy"), rows))


def _cosine(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _show_layers(report: "PruneReport") -> None:
    rows = [
        (
            layer.name,
            f"{layer.channels_before} -> {layer.channels_after}",
            f"{formats.quantity(layer.macs_before)} -> {formats.quantity(layer.macs_after)}",
        )
        for layer in report.layers
    ]
    output.show(Table("Layers", ("layer", "channels", "MACs"), rows))


def _show_parts(report: "PruneReport") -> None:
    rows = [
        (
            part.name,
            f"{formats.quantity(part.macs_before)} -> {formats.quantity(part.macs_after)}",
            " -> ".join(
                (
                    formats.percent(part.macs_before / report.macs_before),
                    formats.percent(part.macs_after / report.macs_after),
                )
            ),
        )
        for part in report.parts
    ]
    output.show(Table("MACs by part", ("part", "MACs", "share of the network's"), rows))


def _show_padding(report: "PruneReport") -> None:
    rows = [
        (
            str(row.block),
            formats.percent(row.macs / report.macs_after),
            "-" if row.macs_unaligned is None else formats.percent(row.macs_unaligned / report.macs_after),
        )
        for row in report.padding
    ]
    columns = ("channels a block", "as cut", "with counts of any size")
    output.show(Table("Padding that kernels working on blocks of channels add to the MACs", columns, rows))


def _show_stages(report: "PruneReport") -> None:
    rows = [
        (
            str(stage.number),
            formats.percent(stage.share),
            stage.allocation,
            f"{_cost(report, stage.cost_predicted)} of {_cost(report, stage.cost_wanted)}",
            "-" if stage.latency_measured_ms is None else formats.milliseconds(stage.latency_measured_ms),
            formats.score(stage.miou_pruned),
            formats.score(stage.miou_after),
        )
        for stage in report.stages
    ]
    columns = ("stage", "to remove", "shared out", "cost of target", "measured", "mIoU as cut", "fine-tuned")
    output.show(Table("Stages", columns, rows))


def _cost(report: "PruneReport", value: float) -> str:
    return formats.milliseconds(value) if report.target == "latency" else formats.quantity(value)


def _show_totals(report: "PruneReport") -> None:
    removed = formats.percent(1 - report.params_after / report.params_before)
    rows = [
        (
            "MACs",
            formats.quantity(report.macs_before),
            formats.quantity(report.macs_after),
            formats.percent(report.ratio_realised),
        ),
        ("params", formats.quantity(report.params_before), formats.quantity(report.params_after), removed),
    ]
    output.show(Table("Pruned", ("", "before", "after", "removed"), rows))
    output.result(f"Largest difference from the masked network: {report.exactness:.1e} (exactness contract)")
    scores = [("dense", report.miou_before)]
    if report.miou_settled is not None:
        scores.append(("dense, batch norms measured anew", report.miou_settled))
    scores += [("pruned", report.miou_pruned), ("fine-tuned", report.miou_after)]
    output.show(Table("Validation mIoU", ("network", "mIoU"), [(name, formats.score(miou)) for name, miou in scores]))
