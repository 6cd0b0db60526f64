"""`prunekit eval`: mIoU of a run, an ONNX file or an engine on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunekit_cli.folders import check_model, recipe_near
from prunekit_cli.options import common as options
from prunekit_cli.options import data as data_options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.recipe import DataConfig
    from prunekit_export.running import EvalReport

EXAMPLES = (
    "prunekit eval runs/0001-train",
    "prunekit eval runs/0001-train/export/model.onnx",
    "prunekit eval model.onnx --data camvid --root camvid --split test",
    "prunekit eval street.onnx --data folder --root street --classes street.toml",
)
PANELS = {"Data": ("data", "root", "classes", "split"), "Run": ("provider", "as_json", "help")}

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Run directory, .onnx file or engine (.plan).")]
Data = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Data set: {options.DATA_SETS}.", show_default="as in the model's run"),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Class list of the folder data set (TOML, text, CSV).",
        show_default="as in the model's run",
    ),
]
Ignore = Annotated[
    str | None,
    typer.Option(
        "--ignore-index",
        metavar="N",
        help="Number in the masks that does not count, or several: 0,255.",
        show_default="as in the model's run",
    ),
]
Split = Annotated[str, typer.Option(metavar="train|val|test", help="Split of the data set.")]


def command(
    model: Model,
    data: Data = None,
    root: options.RootOption = None,
    classes: Classes = None,
    ignore_index: Ignore = None,
    images: data_options.ImagesOption = None,
    masks: data_options.MasksOption = None,
    settings: options.SetOption = None,
    split: Split = "val",
    provider: options.ProviderOption = None,
    threads: options.ThreadsOption = None,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Compute the mIoU of a model on a data set: at the size of the masks, with the preprocessing saved with it."""
    part = options.one_of("--split", split, ("train", "val", "test"))
    named = {"data.name": data, "data.root": root, **data_options.mask_settings(classes, ignore_index, images, masks)}
    flags, chosen = options.given(named), options.parse_settings(settings)
    config, overrides = _data(model, flags, chosen), chosen | flags
    rows = [
        Setting("data", f"{config.name} {config.root}".strip(), "--data --root"),
        Setting("split", split, "--split"),
        Setting("provider", provider or "cpu; the GPU for an engine", "--provider"),
    ]
    own = "data.name" in overrides
    report = _evaluate(model, config, part, provider, threads or 0, trust_code, rows, own_data=own)
    if as_json:
        output.show_json(report)
    else:
        _show(report)


def _data(model: Path, flags: dict[str, Any], settings: dict[str, Any]) -> "DataConfig":
    from prunekit.run import RunDirectory

    overrides = settings | flags
    options.only_section("data", overrides)
    check_model(model)
    recipe = recipe_near(model)
    if recipe is not None:
        return RunDirectory(recipe.parent).recipe(overrides).data
    if "data.name" not in overrides:
        raise options.OptionError(f"No recipe.toml near {model} says which data set it was trained on. Give --data.")
    return options.recipe_of(None, flags, settings).data


def _evaluate(
    model: Path,
    data: "DataConfig",
    split: Any,
    provider: str | None,
    threads: int,
    trust_code: bool,
    rows: list[Setting],
    *,
    own_data: bool,
) -> "EvalReport":
    from prunekit_export.running import evaluate_model

    with Progress() as progress:
        progress.stage("Checking the data and loading the model")
        return evaluate_model(
            model,
            data=data,
            split=split,
            provider=provider,
            threads=threads,
            trust_code=trust_code,
            own_data=own_data,
            on_progress=progress.advance,
            on_ready=lambda: progress.settings(f"Evaluating {model}", rows),
            on_image=lambda done, all_: progress.advance("evaluating", done, all_, detail="images"),
        )


def _show(report: "EvalReport") -> None:
    metrics = report.metrics
    columns = zip(report.classes, metrics["iou"], report.labels.shares, strict=True)
    rows = [(name, formats.score(iou), formats.pixel_share(share)) for name, iou, share in columns]
    rows.append(("(ignored)", "-", formats.pixel_share(report.labels.ignored_share)))
    title = f"{report.model} on {report.images} images of {report.data} {report.split}, run by {report.ran_on}"
    output.show(Table(title, ("class", "IoU", "pixels"), rows))
    output.result(f"mIoU {formats.score(metrics['miou'])}  pixel accuracy {formats.score(metrics['pixel_accuracy'])}")
    if metrics["absent_classes"]:
        names = ", ".join(report.classes[index] for index in metrics["absent_classes"])
        output.result(f"Left out of the mean, as they do not occur here: {names}")
