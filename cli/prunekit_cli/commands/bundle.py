"""`prunekit bundle`: from a run to one folder that a device opens, builds and checks."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.folders import source_run
from prunekit_cli.options import common as options
from prunekit_cli.options.bundling import (
    FoldOption,
    GoldenOption,
    GraphOption,
    PictureSizeOption,
    PrecisionOption,
    bundle_config,
)
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.run import RunDirectory
    from prunekit_export.bundling import BundleConfig, BundleSummary

EXAMPLES = ("prunekit bundle", "prunekit bundle runs/0002-prune -o orin --precision fp16")
PANELS = {
    "What to write": ("precision", "graph", "picture_size", "fold", "golden"),
    "Run": ("out", "overwrite", "root", "trust_code", "as_json", "help"),
}

Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="The bundle's folder.", show_default="RUN/bundle"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")]


def command(
    run: options.RunArgument = None,
    precision: PrecisionOption = None,
    graph: GraphOption = "labels",
    picture_size: PictureSizeOption = None,
    fold: FoldOption = "exact",
    golden: GoldenOption = 4,
    out: Out = None,
    overwrite: Overwrite = False,
    root: options.RootOption = None,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Gather all that a device needs of a run: models, preprocessing, golden pictures and the runtime.

    On the device: cd BUNDLE; python3 -m prunekit_runtime build, then check and bench.
    """
    config = bundle_config(precision, graph, picture_size, fold, golden, overwrite=overwrite)
    source = source_run(run)
    summary = _write(source, out or source.path / "bundle", config, root, trust_code)
    if as_json:
        output.show_json(summary)
        return
    show(summary)
    output.say(f"Next, on the device: cd {shlex.quote(str(summary.path))} && python3 -m prunekit_runtime build")


def _write(
    source: "RunDirectory", out_dir: Path, config: "BundleConfig", root: str | None, trust_code: bool
) -> "BundleSummary":
    from prunekit_export.bundling import write_bundle

    with Progress() as progress:
        return write_bundle(
            source,
            out_dir,
            config,
            root=root,
            trust_code=trust_code,
            on_stage=progress.stage,
            on_progress=progress.advance,
        )


def show(summary: "BundleSummary") -> None:
    """Show what was written."""
    rows = [
        (
            entry.name,
            _takes(entry.graph),
            _shape(entry.input_shape),
            formats.file_size(entry.path(summary.path).stat().st_size),
        )
        for entry in summary.models
    ]
    output.show(Table("Models", ("model", "takes", "input", "size"), rows))
    output.result(
        f"{summary.path}: {summary.files} files, {formats.file_size(summary.size_bytes)}; {summary.golden} golden "
        f"pictures that show {summary.classes_shown} classes"
    )


def _takes(graph: str) -> str:
    return "pictures, gives labels" if graph == "labels" else "prepared images, gives logits"


def _shape(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)
