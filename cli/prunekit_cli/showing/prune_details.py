"""Where every channel of a pruning went: what `prunekit prune --verbose` shows below the result."""

from typing import TYPE_CHECKING

from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table

if TYPE_CHECKING:
    from prunekit.workflows.prune import PruneReport


def show_details(report: "PruneReport") -> None:
    """Show all groups, layers, reasons, parts, padding and stages."""
    _show_groups(report)
    _show_layers(report)
    if report.frozen:
        output.show(Table("Left whole", ("group", "reason"), report.frozen))
    _show_parts(report)
    _show_padding(report)
    _show_stages(report)


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
            f"{cost_of(report, stage.cost_predicted)} of {cost_of(report, stage.cost_wanted)}",
            "-" if stage.latency_measured_ms is None else formats.milliseconds(stage.latency_measured_ms),
            formats.score(stage.miou_pruned),
            formats.score(stage.miou_after),
        )
        for stage in report.stages
    ]
    columns = ("stage", "to remove", "shared out", "cost of target", "measured", "mIoU as cut", "fine-tuned")
    output.show(Table("Stages", columns, rows))


def cost_of(report: "PruneReport", value: float) -> str:
    """Return a cost in the unit of the target: milliseconds, or a number of MACs or parameters."""
    return formats.milliseconds(value) if report.target == "latency" else formats.quantity(value)
