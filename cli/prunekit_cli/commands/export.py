"""`prunekit export`: from a run to the files a device needs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.commands import export_file as files
from prunekit_cli.folders import source_run
from prunekit_cli.options import common as options
from prunekit_cli.options.data import parse_sides
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.folding.fold import FoldReport
    from prunekit.run import RunDirectory
    from prunekit_export.parity import ParityReport, PictureParity
    from prunekit_export.quantising import Cost, QuantisedReport
    from prunekit_export.request import PictureSize
    from prunekit_export.workflow import ExportConfig, ExportOutcome

EXAMPLES = (
    "prunekit export",
    "prunekit export --trt",
    "prunekit export runs/0002-prune --precision fp16 --dynamic",
    "prunekit export --end2end",
    "prunekit export --precision auto --max-miou-drop 1",
    "prunekit export network.onnx --output logits --mean .5,.5,.5 --std .5,.5,.5",
)

PANELS = {
    "What to write": ("precision", "max_miou_drop", "fold", "end2end", "picture_size", "confidence", "trt", "tf32"),
    "Input": ("height", "width", "batch", "dynamic"),
    "Run": ("out", "as_json", "help"),
}
PARITY_COLUMNS = ("images", "shape", "error", "same labels")

Precision = Annotated[
    str,
    typer.Option(
        metavar="fp32|fp16|int8|auto",
        help="Number format written into the ONNX file. int8 leaves layers in fp16 that gain nothing by it; auto also "
        "keeps layers in fp16 until the mIoU is within --max-miou-drop.",
    ),
]
Fold = Annotated[
    str,
    typer.Option(
        metavar="exact|static|none",
        help="How batch norms and a CCS (class center similarity) head are folded into convolutions: exact keeps the "
        "outputs, static also fixes the class centers at those of the average scene, none folds nothing.",
    ),
]
Trt = Annotated[
    bool,
    typer.Option(
        "--trt", help="Also build a TensorRT engine; on a machine without a GPU, ahead of time with TensorRT-RTX."
    ),
]
Tf32 = Annotated[
    bool,
    typer.Option(
        "--tf32",
        help="Let float32 layers of an engine compute in TF32: 10 bits of mantissa, not 23; faster from Ampere on.",
    ),
]
EndToEnd = Annotated[
    bool,
    typer.Option(
        "--end2end",
        help="Also write files that take pictures (uint8, RGB) and give labels (uint8), with resizing, normalization "
        "and argmax inside; an engine is built from such a file.",
    ),
]
PictureSizeOption = Annotated[
    str | None,
    typer.Option(
        "--picture-size",
        metavar="HxW|any",
        help="Size of the pictures that such a file takes, height first.",
        show_default="that of the validation images if they share one, else the input's; any with --dynamic",
    ),
]
Confidence = Annotated[
    bool, typer.Option("--confidence", help="Let such a file also give the softmax of the winning class, 255 for 1.")
]
Batch = Annotated[int, typer.Option("--batch", help="Batch size of the file.")]
Dynamic = Annotated[
    bool, typer.Option("--dynamic/--static", help="Let the file take any batch size, height and width, or fix them.")
]
Images = Annotated[
    int | None,
    typer.Option(
        "--images",
        help="Number of training images used for calibration, by --precision and --fold static.",
        show_default="64 for int8 and auto, else 16",
    ),
]
KeepFp32 = Annotated[
    list[str] | None,
    typer.Option("--keep-fp32", metavar="NAME", help="A node of the ONNX file that stays in float32; may be repeated."),
]
CalibrationOption = Annotated[
    str,
    typer.Option(
        "--calibration",
        metavar="entropy|percentile|minmax",
        help="How int8 finds the range of an activation: what loses least of its distribution, without the largest "
        "0.01 % of its values, or all of it.",
    ),
]
MaxDrop = Annotated[
    float,
    typer.Option(
        "--max-miou-drop", metavar="POINTS", help="Points of validation mIoU that fp16 or int8 may cost, out of 100."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Output folder, new or empty.", show_default="RUN/export, export-2, ..."),
]


Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN|FILE",
        help="Run directory, or an ONNX file that another tool wrote.",
        show_default="newest finished run under runs/",
    ),
]


def command(
    run: Source = None,
    precision: Precision = "fp32",
    fold: Fold = "exact",
    end2end: EndToEnd = False,
    picture_size: PictureSizeOption = None,
    confidence: Confidence = False,
    trt: Trt = False,
    tf32: Tf32 = False,
    height: options.HeightOption = 0,
    width: options.WidthOption = 0,
    batch: Batch = 1,
    dynamic: Dynamic = False,
    images: Images = None,
    keep_fp32: KeepFp32 = None,
    calibration: CalibrationOption = "entropy",
    max_miou_drop: MaxDrop = 0.5,
    output_name: files.OutputName = None,
    mean: files.Mean = None,
    std: files.Std = None,
    channels: files.Channels = None,
    scale: files.Scale = None,
    root: options.RootOption = None,
    trust_code: options.TrustOption = False,
    out: Out = None,
    as_json: options.JsonOption = False,
) -> None:
    """Export a run, or an ONNX file of another tool, to ONNX and, with --trt, to a TensorRT engine.

    Batch norms are folded, the preprocessing is written beside the file, and its outputs are compared with torch. An
    ONNX file keeps its numbers; its input becomes float32 images, its output logits of their size.
    """
    from prunekit.workflows.importing import only_classes
    from prunekit_export.staging import free_folder
    from prunekit_export.workflow import ExportConfig

    config = ExportConfig(
        precision=precision,  # pyright: ignore[reportArgumentType]  checked by ExportConfig
        fold=fold,  # pyright: ignore[reportArgumentType]  checked by ExportConfig
        trt=trt,
        tf32=tf32,
        height=height,
        width=width,
        batch=batch,
        dynamic=dynamic,
        end2end=end2end,
        picture_size=_picture_size(picture_size),
        confidence=confidence,
        images=images,
        keep_fp32=tuple(keep_fp32 or ()),
        calibration=calibration,  # pyright: ignore[reportArgumentType]  checked by ExportConfig
        max_miou_drop=max_miou_drop,
    )
    told = files.FileOptions(output_name, mean, std, channels, scale)
    if run is not None and run.suffix == ".onnx" and not run.is_dir():
        told.refuse_of_runs(root=root, trust_code=trust_code)
        files.export(run, config, told, out, as_json=as_json)
        return
    told.refuse()
    source = source_run(run)
    folder = free_folder(source.path / "export") if out is None else out
    outcome = _export(source, config, folder, root, trust_code)
    if as_json:
        output.show_json(outcome)
    else:
        _show(outcome, " --trust-code" if trust_code else "", has_images=not only_classes(source.recipe()))


def _picture_size(text: str | None) -> "PictureSize":
    if text is None or text == "any":
        return text  # pyright: ignore[reportReturnType]  "any" or None
    return parse_sides(text, "--picture-size", least=1)


def _export(
    source: "RunDirectory", config: "ExportConfig", folder: Path, root: str | None, trust_code: bool
) -> "ExportOutcome":
    from prunekit_export.workflow import export_model

    with Progress() as progress:
        return export_model(
            source,
            config,
            folder,
            root=root,
            trust_code=trust_code,
            on_stage=progress.stage,
            on_progress=progress.advance,
            on_ready=lambda: _announce(source, config, folder, progress),
        )


def _announce(source: "RunDirectory", config: "ExportConfig", folder: Path, progress: Progress) -> None:
    size = f"{config.height}x{config.width}" if config.height else "as trained"
    shape = "batch, height and width open" if config.dynamic else f"batch {config.batch}, fixed"
    rows = [
        Setting("source", str(source.path), "RUN"),
        Setting("precision", config.precision, "--precision"),
        Setting("folding", config.fold, "--fold"),
        Setting("input", f"{size}, {shape}", "--height --width --batch --dynamic"),
        Setting("pictures to labels", _pictures(config), "--end2end --picture-size"),
        Setting("engine", _engine(config), "--trt --tf32"),
        Setting("folder", str(folder), "--out"),
    ]
    progress.settings("Exporting", rows)


def _pictures(config: "ExportConfig") -> str:
    if not config.end2end:
        return "no"
    size = config.picture_size
    shown = "of the validation images' size" if size is None else "of any size"
    return f"yes, pictures {shown}" if not isinstance(size, tuple) else f"yes, pictures of {size[0]}x{size[1]}"


def _engine(config: "ExportConfig") -> str:
    if not config.trt:
        return "no"
    return "yes, TF32 allowed" if config.tf32 else "yes"


def _show(outcome: "ExportOutcome", trust: str, *, has_images: bool) -> None:
    summary = outcome.summary
    sizes = [(str(path), formats.file_size(path.stat().st_size)) for path in summary.files]
    output.show(Table("Files", ("file", "size"), sizes))
    for report in filter(None, (summary.parity, summary.parity_fp16)):
        title = f"{report.file} against torch: {_computes_in(report)}, run by {report.runtime}"
        output.show(Table(title, PARITY_COLUMNS, list(_parity(report))))
    if summary.fp16_cost is not None:
        output.result(cost(summary.fp16_cost))
    if summary.int8 is not None:
        _show_int8(summary.int8)
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


def _show_int8(report: "QuantisedReport") -> None:
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
        f"{found.file} on {found.judged.pictures} validation images: {100 * found.judged.agreement:.2f} % of the "
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
