"""`prunekit predict`: what a model sees on pictures and videos of one's own."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.folders import check_model, recipe_near
from prunekit_cli.options import common as options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress
from prunekit_cli.threads import wait_patiently

if TYPE_CHECKING:
    from prunekit_export.predicting import Inputs, PredictConfig
    from prunekit_runtime.predicting.job import PredictReport, Tally

EXAMPLES = (
    "prunekit predict runs/0001-train photos",
    "prunekit predict runs/0002-prune/export/model.onnx street.jpg --as overlay --as contour",
    "prunekit predict runs/0001-train 'photos/**/*.png' --as side-by-side --out seen",
)
RESULTS = Path("predictions")
MOST_COMPLAINTS = 20  # lines about pictures that cannot be labelled; all are in --json

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Run directory, .onnx file or engine (.plan).")]
Sources = Annotated[
    list[Path], typer.Argument(metavar="SOURCE", help="Images, folders, glob patterns ('photos/**/*.png') or videos.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Output folder.", show_default="predictions/ and the model's name"),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--as",
        metavar="mask|overlay|contour|side-by-side",
        help="What to write; may be repeated. A mask is a PNG of class numbers.",
        show_default="mask, overlay",
    ),
]
Alpha = Annotated[float, typer.Option(help="Opacity of the colours in an overlay, 0 to 1.")]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|tensorrt",
        help="Where to run. auto: the GPU for an engine, the GPU if there is one for a run, the CPU for an .onnx file.",
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images per batch.", show_default="what the model takes, else 1")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing results.")]


def command(
    model: Model,
    sources: Sources,
    out: Out = None,
    kinds: Kinds = None,
    alpha: Alpha = 0.5,
    device: Device = "auto",
    threads: options.ThreadsOption = None,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Segment images or videos and write masks, overlays, contours or side-by-side pictures, with a legend.

    Results have the names, subfolders and sizes of their images. Photos with an EXIF rotation are turned upright.
    """
    wait_patiently()
    from prunekit_export.predicting import PredictConfig, find_inputs
    from prunekit_runtime.predicting.job import Tally, chosen_kinds

    config = PredictConfig(
        kinds=chosen_kinds(kinds or []),
        alpha=alpha,
        device=options.one_of("--device", device, ("auto", "cpu", "cuda", "tensorrt")),
        threads=threads or 0,
        batch_size=batch_size,
        overwrite=overwrite,
        trust_code=trust_code,
    )
    out_dir = out or RESULTS / _name(model)
    inputs, tally = find_inputs(sources, leave_out=out or RESULTS), Tally()
    check_model(model)
    output.settings(f"Predicting with {model}", _settings(inputs, out_dir, config))
    try:
        report = _predict(model, inputs, out_dir, config, tally)
    except BaseException:
        if tally.written:
            output.say(f"{tally.written} images are done; their results are in {out_dir}.")
        raise
    output.show_json(report.to_json()) if as_json else _show(report)
    if report.failed:
        output.flush()
        output.fail(f"{len(report.failed)} of {tally.done} images have no result, see above.")
        raise typer.Exit(1)


def _name(model: Path) -> str:
    """Return what the results of a model are called: the run, and the file in it."""
    if model.is_dir():
        return model.resolve().name
    recipe = recipe_near(model)
    return model.stem if recipe is None else f"{recipe.resolve().parent.name}-{model.stem}"


def _settings(inputs: "Inputs", out_dir: Path, config: "PredictConfig") -> list[Setting]:
    counts = {"images": len(inputs.pictures), "videos": len(inputs.videos)}
    found = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    rest = f"; other files, left out: {inputs.others}" if inputs.others else ""
    return [
        Setting("input", found + rest, "SOURCE"),
        Setting("output", str(out_dir), "--out"),
        Setting("written as", ", ".join(config.kinds), "--as"),
        Setting("device", config.device, "--device"),
    ]


def _predict(model: Path, inputs: "Inputs", out_dir: Path, config: "PredictConfig", tally: "Tally") -> "PredictReport":
    from prunekit_export.predicting import count_frames, predict

    with Progress() as progress:
        progress.stage("Loading the model")
        observer = _Observer(progress, count_frames(inputs))
        return predict(model, inputs, out_dir, config, tally=tally, on_item=observer)


class _Observer:
    """Moves the bar, and says why an image has no result as soon as that is known."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._said = 0
        self._began_s: float | None = None

    def __call__(self, tally: "Tally") -> None:
        from prunekit_runtime.predicting.labelling import told

        for name, reason in tally.failed[self._said : MOST_COMPLAINTS]:
            self._progress.line(f"No result: {told(name, reason)}")
        if self._said < MOST_COMPLAINTS < len(tally.failed):
            self._progress.line("More images have no result; --json lists them all.")
        self._said = len(tally.failed)
        self._progress.advance("predicting", tally.done, max(self._total, tally.done), detail=self._rate(tally))

    def _rate(self, tally: "Tally") -> str:
        now_s = time.monotonic()
        if self._began_s is None:  # the first image holds what is done once only
            self._began_s, self._first = now_s, tally.done
            return "images"
        return f"{(tally.done - self._first) / max(now_s - self._began_s, 1e-9):.1f} images/s"


def _show(report: "PredictReport") -> None:
    total = sum(report.pixels)
    rows = [
        (name, formats.pixel_share(count / total))
        for name, count in zip(report.classes, report.pixels, strict=True)
        if count
    ]
    if rows:
        title = f"{report.model} on {report.written} images, run by {report.ran_on}"
        output.show(Table(title, ("class", "pixels"), rows))
    absent = [name for name, count in zip(report.classes, report.pixels, strict=True) if not count]
    if rows and absent:
        output.result(f"Not seen: {', '.join(absent)}")
    output.result(
        f"{report.written} images in {report.total_s:.1f} s, {report.pictures_per_s:.1f} images/s, "
        f"{report.batch_size} at once"
    )
    done = max(1, report.written + len(report.failed))
    stages = (f"{stage} {formats.milliseconds(1e3 * spent / done)}" for stage, spent in report.seconds.items())
    output.result(f"An image takes: {', '.join(stages)}")
    if report.written:
        output.result(f"Results: {', '.join(f'{report.out_dir}/{kind}' for kind in report.kinds)}; colours: legend.png")
