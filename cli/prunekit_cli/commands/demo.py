"""`prunekit demo`: the whole chain on generated street scenes, in minutes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.folders import target_run
from prunekit_cli.options import common as options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.observing import TrainingProgress
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress
from prunekit_cli.threads import wait_patiently

if TYPE_CHECKING:
    from prunekit_export.demo import DemoConfig, DemoReport, DemoRow

EXAMPLES = ("prunekit demo", "prunekit demo --seed 1 --out my-demo")

Seed = Annotated[int, typer.Option(help="Random seed of scenes, initial weights, image order and augmentation.")]


def command(
    out: options.OutOption = None,
    seed: Seed = 0,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Train, prune, export and measure a small network on generated street scenes. No data set is needed."""
    wait_patiently()
    from prunekit_export.demo import DemoConfig

    config = DemoConfig(seed=seed, device=device or "auto", threads=threads or 0)
    with target_run(out, "demo") as target:
        _announce(config, target.path)
        report = _run(target.path, config)
    if as_json:
        output.show_json(report)
    else:
        _show(report)


def _run(out: Path, config: "DemoConfig") -> "DemoReport":
    from prunekit_export.demo import run_demo

    with Progress() as progress:
        return run_demo(
            out, config, observer=TrainingProgress(progress), on_stage=progress.stage, on_progress=progress.advance
        )


def _announce(config: "DemoConfig", out: Path) -> None:
    rows = [
        Setting("scenes", f"{config.train_images} to train, {config.val_images} to validate", "prunekit train"),
        Setting("remove", f"{formats.percent(config.ratio)} of the MACs", "--ratio of prunekit prune"),
        Setting("seed", str(config.seed), "--seed"),
        Setting("device", config.device, "--device"),
        Setting("threads", str(config.threads) if config.threads else "torch's choice; one to measure", "--threads"),
        Setting("folder", str(out), "--out"),
    ]
    output.settings("Demo: at most 6 minutes on 2 CPU cores", rows)


def _show(report: "DemoReport") -> None:
    columns = ("network", "mIoU", "MACs", "params", "latency p50", "p90", "speed-up", "parity", "ONNX", "engine")
    output.show(
        Table(f"Measured on {report.ran_on}, {report.threads} thread(s)", columns, [_row(row) for row in report.rows])
    )
    output.result("mIoU and latency are those of the ONNX files; parity is their largest error against torch.")
    output.result("Folded: batch norms, and the CCS head at its mean scene (--fold static of prunekit export).")
    output.result(f"Engines: {report.engines}")
    output.result(f"Trained in {report.precision} on {report.device}; {formats.duration(report.wall_s)} in all.")
    output.result(f"Predictions beside the truth: {report.picture}")
    output.say(f"The same by hand: prunekit train; prunekit prune; prunekit export   (runs: {report.out})")


def _row(row: "DemoRow") -> tuple[str, ...]:
    return (
        row.name,
        formats.score(row.miou),
        formats.quantity(row.macs),
        formats.quantity(row.params),
        formats.milliseconds(row.latency_p50_ms),
        formats.milliseconds(row.latency_p90_ms),
        f"{row.speed_up:.2f} x",
        f"{row.parity_max_rel:.1e}",
        formats.file_size(row.onnx_bytes),
        "-" if row.engine_bytes is None else formats.file_size(row.engine_bytes),
    )
