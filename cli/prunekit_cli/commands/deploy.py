"""`prunekit deploy`: from a run or a bundle to engines on devices, built, checked and measured there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.options import common as options
from prunekit_cli.options.bundling import (
    FoldOption,
    GoldenOption,
    GraphOption,
    PictureSizeOption,
    PrecisionOption,
    bundle_config,
)
from prunekit_cli.options.common import OptionError
from prunekit_cli.showing import output
from prunekit_cli.showing.devices import Devices
from prunekit_cli.showing.output import Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit_export.bundling import BundleConfig
    from prunekit_export.deploying import DeployConfig, DeviceOutcome
    from prunekit_export.remote import Host

EXAMPLES = (
    "prunekit deploy runs/0002-prune nvidia@orin",
    "prunekit deploy runs/0002-prune orin1 orin2 --precision fp16",
    "prunekit deploy bundle nvidia@orin --backend ort",
)
PANELS = {
    "On the devices": ("backend", "remote_dir", "python", "skip_bench"),
    "Bundle of a run": ("precision", "graph", "root"),
    "Output": ("as_json", "help"),
}
COLUMNS = ("device", "model", "p50 ms", "p99 ms", "J/frame", "mIoU", "same labels", "check", "timing")

Source = Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="Run directory, or a bundle of prunekit bundle.")]
Hosts = Annotated[
    list[str],
    typer.Argument(metavar="HOST...", help="Devices as ssh knows them: NAME or USER@NAME, with your keys."),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="tensorrt|ort", help="What runs the models there: TensorRT on the GPU, or ONNX Runtime on the CPU."
    ),
]
RemoteDir = Annotated[
    str,
    typer.Option(
        "--remote-dir", metavar="DIR", help="Folder there that gets the bundle's; from the home folder, or absolute."
    ),
]
Python = Annotated[str, typer.Option("--python", metavar="PATH", help="Python there: 3.10 or later, with numpy.")]
SkipBench = Annotated[bool, typer.Option("--skip-bench", help="Build and check, and measure nothing.")]
SshConfig = Annotated[
    Path | None,
    typer.Option("--ssh-config", metavar="FILE", help="Configuration of ssh.", show_default="~/.ssh/config"),
]


def command(
    source: Source,
    hosts: Hosts,
    backend: Backend = "tensorrt",
    remote_dir: RemoteDir = "prunekit",
    python: Python = "python3",
    skip_bench: SkipBench = False,
    ssh_config: SshConfig = None,
    precision: PrecisionOption = None,
    graph: GraphOption = "labels",
    picture_size: PictureSizeOption = None,
    fold: FoldOption = "exact",
    golden: GoldenOption = 4,
    root: options.RootOption = None,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Copy a run to devices over ssh, build its engines there, check the labels and measure.

    Reports come back into RUN/deploy/HOST. Run it again to go on where it was interrupted.
    """
    from prunekit_export.deploying import DeployConfig
    from prunekit_export.remote import Host

    wanted = bundle_config(precision, graph, picture_size, fold, golden)
    if ssh_config is not None and not ssh_config.is_file():
        raise OptionError(f"--ssh-config {ssh_config} is no file. Name the configuration that ssh is to read.")
    devices = [Host(name, None if ssh_config is None else ssh_config.resolve()) for name in hosts]
    config = DeployConfig(
        backend=backend,  # pyright: ignore[reportArgumentType]  checked by DeployConfig
        remote_dir=remote_dir,
        python=python,
        bench=not skip_bench,
    )
    bundle, reports = _bundle(source, wanted, root, trust_code)
    outcomes = _deploy(bundle, devices, config, reports)
    if as_json:
        output.show_json([{"passed": outcome.passed, **output.plain(outcome)} for outcome in outcomes])
    else:
        _show(outcomes, reports)
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


def _bundle(source: Path, wanted: "BundleConfig", root: str | None, trust_code: bool) -> tuple[Path, Path]:
    from prunekit_export.deploying import bundle_of

    with Progress() as progress:
        return bundle_of(
            source,
            wanted,
            root=root,
            trust_code=trust_code,
            on_stage=progress.stage,
            on_progress=progress.advance,
        )


def _deploy(bundle: Path, devices: list["Host"], config: "DeployConfig", reports: Path) -> list["DeviceOutcome"]:
    from prunekit_export.deploying import deploy

    with Devices([device.target for device in devices]) as shown:
        return deploy(
            bundle,
            devices,
            config,
            reports,
            on_step=shown.step,
            on_end=lambda outcome: shown.end(outcome.host, passed=outcome.passed),
        )


def _show(outcomes: list["DeviceOutcome"], reports: Path) -> None:
    rows = [
        (
            outcome.host,
            row.model,
            _number(row.p50_ms, ".2f"),
            _number(row.p99_ms, ".2f"),
            _number(row.joules_per_frame, ".3f"),
            _number(row.miou, ".4f"),
            "-" if row.agreement is None else f"{100 * row.agreement:.2f} %",
            {True: "passed", False: "FAILED", None: "-"}[row.passed],
            row.verdict or "-",
        )
        for outcome in outcomes
        for row in outcome.rows
    ]
    output.show(Table("Devices", COLUMNS, rows))
    for outcome in outcomes:
        for runtime in sorted({row.ran_on for row in outcome.rows if row.ran_on}):
            output.result(f"{outcome.host} ran {runtime}")
        if outcome.error is not None:
            output.result(f"{outcome.host} FAILED: {outcome.error}")
    output.result(f"Reports: {reports}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
