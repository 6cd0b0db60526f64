"""What `prunekit export` prints when it is done."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table

if TYPE_CHECKING:
    from prunekit.folding.fold import FoldReport
    from prunekit_export.graph import ExportReport
    from prunekit_export.parity import ParityReport, PictureParity
    from prunekit_export.quantising import Cost, QuantisedReport
    from prunekit_export.workflow import ExportOutcome

PARITY_COLUMNS = ("images", "shape", "error", "same labels")


def show(outcome: "ExportOutcome", trust: str, *, has_images: bool) -> None:
    """Show the files, what was compared, and what comes next; `trust` is the option that later commands need."""
    summary = outcome.summary
    sizes = [(str(path), formats.file_size(path.stat().st_size)) for path in summary.files]
    output.show(Table("Files", ("file", "size"), sizes))
    if summary.onnx.route != "torch.export":
        output.say(_older_route(summary.onnx))
    for report in filter(None, (summary.parity, summary.parity_half)):
        title = f"{report.file} against torch: {_computes_in(report)}, run by {report.runtime}"
        output.show(Table(title, PARITY_COLUMNS, list(_parity(report))))
    if summary.half_cost is not None:
        output.result(cost(summary.half_cost))
    if summary.int8 is not None:
        show_int8(summary.int8)
    for labels in summary.labels:
        output.result(_labels(labels))
    output.result(f"{formats.quantity(outcome.macs)} MACs, {formats.quantity(outcome.params)} parameters")
    if outcome.folded is not None:
        output.result(_folding(outcome.folded))
    if summary.engine is not None:
        tf32 = "on" if summary.engine.tf32 else "off"
        output.result(f"Engine: {summary.engine.statement}; TF32 is {tf32}")
    # The run is read again for its data, which may be somebody's code.
    evaluate = f"   or   prunekit eval {summary.onnx_path}{trust}" if has_images else ""
    output.say(f"Next: prunekit profile {summary.onnx_path}{evaluate}")


def _older_route(written: "ExportReport") -> str:
    fixed = "".join(f"\n* {text}" for text in written.fixed)
    return (
        f"torch.export cannot trace this network, so torch's older exporter ({written.route}) wrote it, from one run "
        "of the network: a decision in Python that depends on pixel values is fixed in the file."
        + (f" It warns of:{fixed}" if fixed else " It warns of none.")
    )


def show_int8(report: "QuantisedReport") -> None:
    """Show what an int8 file costs, and the layers that are none of it."""
    output.result(
        f"{cost(report.cost)}; computes {_shares(report.macs)}, calibrated by {report.calibration} on "
        f"{report.calibration_images} images"
    )
    kept = [(layer.name, layer.reason) for layer in report.layers.kept]
    output.show(Table(f"Layers in fp16 ({len(report.layers.quantised)} are int8)", ("layer", "because"), kept))


def cost(found: "Cost") -> str:
    """Say a file's labels and mIoU beside those of the float32 file."""
    before, after = found.reference.miou, found.judged.miou
    miou = "" if before is None or after is None else f", mIoU {after:.4f} (float32 {before:.4f})"
    return (
        f"{found.file} on {found.judged.pictures} images: {100 * found.judged.agreement:.2f} % of the "
        f"float32 file's labels{miou}"
    )


def _labels(labels: "PictureParity") -> str:
    sizes = ", ".join(f"{height}x{width}" for height, width in labels.sizes)
    return (
        f"{labels.file} against preprocessing, {labels.parts} and postprocessing, run by {labels.runtime}, pictures of "
        f"{sizes}: error of the logits {labels.max_rel:.1e}, the same labels on {100 * labels.label_agreement:.3f} % "
        f"of the pixels and wherever classes are not tied ({100 * labels.tied_share:.3f} % are)"
    )


def _parity(report: "ParityReport") -> Iterator[tuple[str, ...]]:
    for row in report.rows:
        error = f"{row.max_rel:.1e}{' in float64' if row.float64 else ''}"
        yield (row.images, "x".join(map(str, row.shape)), error, f"{100 * row.label_agreement:.3f} %")


def _computes_in(report: "ParityReport") -> str:
    """Say the types of the multiply-accumulates: "fp16", or "97 % fp16, 3 % fp32"."""
    return report.precision if report.precision != "mixed" else _shares(report.macs)


def _shares(macs: "Mapping[str, float]") -> str:
    return ", ".join(f"{100 * share:.0f} % {kind}" for kind, share in macs.items())


def _folding(folded: "FoldReport") -> str:
    rounding = "" if folded.float64_error is None else f" (rounding: in float64 {folded.float64_error:.1e})"
    return (
        f"Folded {folded.batch_norms_folded} batch norms; CCS head: {folded.ccs}. Against the unfolded network: "
        f"relative error {folded.max_relative_error:.1e}{rounding}, same labels {100 * folded.label_agreement:.3f} %"
    )
