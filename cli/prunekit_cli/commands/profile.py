"""`prunekit profile`: latency of a run, an ONNX file or an engine, alone or against another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.folders import check_model
from prunekit_cli.options import common as options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit_export.running import ModelLatency, ProfileConfig, ProfileReport

EXAMPLES = (
    "prunekit profile runs/0002-prune/export/model.onnx",
    "prunekit profile runs/0002-prune/export/model.onnx --against runs/0001-train/export/model.onnx",
    "prunekit profile runs/0002-prune --against runs/0001-train --runs 50",
)

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Run directory, .onnx file or engine (.plan).")]
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="MODEL", help="A second model to compare with, measured in alternation."),
]
Warmup = Annotated[int, typer.Option("--warmup", help="Warm-up runs, not counted.")]
Runs = Annotated[int, typer.Option("--runs", help="Measured runs.")]
Batch = Annotated[int, typer.Option("--batch", help="Batch size.")]
Threads = Annotated[int, typer.Option("--threads", help="CPU threads; 0 lets the library choose.")]


def command(
    model: Model,
    against: Against = None,
    provider: options.ProviderOption = None,
    threads: Threads = 0,
    height: options.HeightOption = 0,
    width: options.WidthOption = 0,
    batch: Batch = 1,
    warmup: Warmup = 20,
    runs: Runs = 200,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure the latency of a model, or of two in alternation so that their ratio is fair."""
    from prunekit_export.running import ProfileConfig

    config = ProfileConfig(
        height=height,
        width=width,
        batch=batch,
        provider=provider,
        threads=threads,
        warmup_runs=warmup,
        runs=runs,
    )
    paths = [model] if against is None else [model, against]
    for path in paths:
        check_model(path)
    _announce(config)
    report = _measure(paths, config, trust_code)
    if as_json:
        output.show_json({"speed_up": report.speed_up, "report": report})
    else:
        _show(report)


def _measure(paths: list[Path], config: "ProfileConfig", trust_code: bool) -> "ProfileReport":
    from prunekit_export.running import profile_models

    # No thread may repaint a bar while something is being timed.
    with Progress(repaint=False) as progress:
        return profile_models(
            paths, config, trust_code=trust_code, on_round=lambda done, all_: progress.advance("measuring", done, all_)
        )


def _announce(config: "ProfileConfig") -> None:
    size = f"{config.height}x{config.width}" if config.height else "the model's own"
    rows = [
        Setting("provider", config.provider or "cpu; the GPU for an engine", "--provider"),
        Setting("threads", str(config.threads) if config.threads else "the library's choice", "--threads"),
        Setting("input", f"batch {config.batch}, {size}", "--batch --height --width"),
        Setting("runs", f"{config.runs} after {config.warmup_runs} to warm up", "--runs --warmup"),
    ]
    output.settings("Measuring", rows)


def _show(report: "ProfileReport") -> None:
    runs, columns = f"{report.models[0].latency.runs} runs each", ("p50", "p90", "p99", "spread", "images/s")
    if any(entry.graph == "labels" for entry in report.models):
        rows = [(*_model(entry), _taken(entry), *_numbers(entry)) for entry in report.models]
        output.show(Table(f"Latency, {runs}", ("model", "ran on", "input and output", *columns), rows))
    else:
        rows = [(*_model(entry), *_numbers(entry)) for entry in report.models]
        title = f"Latency at {report.batch}x3x{report.height}x{report.width}, {runs}"
        output.show(Table(title, ("model", "ran on", *columns), rows))
    output.result(f"Peak memory of the process: {formats.file_size(report.peak_memory_bytes)}")
    if report.speed_up is not None:
        first, last = report.models[0].model, report.models[-1].model
        output.result(f"{first} is {report.speed_up:.2f} times as fast as {last} (medians of alternating runs).")


def _model(entry: "ModelLatency") -> tuple[str, str]:
    return str(entry.model), entry.ran_on


def _taken(entry: "ModelLatency") -> str:
    """Say what was timed: a whole, from pictures to labels, is no network alone."""
    shape = "x".join(map(str, entry.input_shape))
    return f"{'pictures' if entry.graph == 'labels' else 'images'} {shape} to {entry.graph}"


def _numbers(entry: "ModelLatency") -> tuple[str, ...]:
    latency = entry.latency
    times = (formats.milliseconds(value_ms) for value_ms in (latency.p50_ms, latency.p90_ms, latency.p99_ms))
    spread = formats.percent(latency.std_ms / latency.mean_ms)
    return (*times, spread, f"{latency.images_per_s:.1f}")
