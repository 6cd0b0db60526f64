"""`prunekit export`: from a run to the files a device needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.commands import export_file as files
from prunekit_cli.folders import source_run
from prunekit_cli.options import common as options
from prunekit_cli.options import engine as engines
from prunekit_cli.options.common import OptionError
from prunekit_cli.options.data import parse_sides
from prunekit_cli.showing import export_report, output
from prunekit_cli.showing.output import Setting
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.run import RunDirectory
    from prunekit_export.request import PictureSize
    from prunekit_export.workflow import ExportConfig, ExportOutcome

EXAMPLES = (
    "prunekit export",
    "prunekit export --trt",
    "prunekit export --dynamic --trt --min 1x3x64x96 --opt 1x3x128x192 --max 4x3x256x384 --target SM89",
    "prunekit export runs/0002-prune --precision fp16 --dynamic",
    "prunekit export --end2end",
    "prunekit export --precision auto --max-miou-drop 1",
    "prunekit export network.onnx --output logits --mean .5,.5,.5 --std .5,.5,.5",
    "prunekit export network.onnx --precision int8 --data folder --root street --classes street.toml",
)

PANELS = {
    "What to write": ("precision", "max_miou_drop", "fold", "end2end", "picture_size", "confidence", "trt", "tf32"),
    "Input": ("height", "width", "batch", "dynamic"),
    "Run": ("out", "as_json", "help"),
}

Precision = Annotated[
    str,
    typer.Option(
        metavar="fp32|fp16|bf16|int8|auto",
        help="Number format written into the ONNX file. bf16 has the range of float32 and fewer digits than fp16; int8 "
        "leaves layers in fp16 that gain nothing by it; auto also keeps layers in fp16 until the mIoU is within "
        "--max-miou-drop.",
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
        "--max-miou-drop",
        metavar="POINTS",
        help="Points of validation mIoU that another precision may cost, out of 100.",
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
    minimum: engines.MinOption = None,
    optimum: engines.OptOption = None,
    maximum: engines.MaxOption = None,
    workspace: engines.WorkspaceOption = None,
    optimization_level: engines.LevelOption = None,
    timing_cache: engines.CacheOption = None,
    package: engines.PackageOption = "auto",
    target: engines.TargetOption = None,
    version_compatible: engines.VersionOption = False,
    hardware_compatible: engines.HardwareOption = False,
    refit: engines.RefitOption = False,
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
    data: files.Data = None,
    classes: files.Classes = None,
    settings: options.SetOption = None,
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

    kinds = {"version_compatible": version_compatible, "hardware_compatible": hardware_compatible, "refit": refit}
    engine = engines.engine_options(package, target, workspace, optimization_level, timing_cache, tf32=tf32, **kinds)
    config = ExportConfig(
        precision=precision,  # pyright: ignore[reportArgumentType]  checked by ExportConfig
        fold=fold,  # pyright: ignore[reportArgumentType]  checked by ExportConfig
        trt=trt,
        engine=engine,
        profile=engines.profile(minimum, optimum, maximum),
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
    told = files.FileOptions(output_name, mean, std, channels, scale, data, classes, tuple(settings or ()) or None)
    if run is not None and run.suffix == ".onnx" and not run.is_dir():
        if trust_code:
            raise OptionError("--trust-code is about a run, and an ONNX file is exported. Leave it out.")
        files.export(run, config, told, root, out, as_json=as_json)
        return
    told.refuse()
    source = source_run(run)
    folder = free_folder(source.path / "export") if out is None else out
    outcome = _export(source, config, folder, root, trust_code)
    if as_json:
        output.show_json(outcome)
    else:
        export_report.show(outcome, " --trust-code" if trust_code else "", has_images=not only_classes(source.recipe()))


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
    return "yes, TF32 allowed" if config.engine.tf32 else "yes"
