"""`prunekit profile`: latency of a run, an ONNX file or an engine, alone or against another."""

import csv
import io
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
    from prunekit_runtime.measuring.latency import Samples

PANELS = {
    "What to measure": ("against", "provider", "threads", "batch", "runs"),
    "What to write": ("layers", "samples", "strict", "as_json", "help"),
}
NOT_STABLE = 3
SHOWN_LAYERS = 15
EXAMPLES = (
    "prunekit profile runs/0002-prune/export/model.onnx",
    "prunekit profile runs/0002-prune/export/model.onnx --against runs/0001-train/export/model.onnx",
    "prunekit profile runs/0002-prune --against runs/0001-train --runs 50",
    "prunekit profile runs/0002-prune/export/model.onnx --layers",
)

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Run directory, .onnx file or engine (.plan).")]
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="MODEL", help="A second model to compare with, measured in alternation."),
]
Warmup = Annotated[int, typer.Option("--warmup", help="Warm-up runs, not counted.")]
Runs = Annotated[int, typer.Option("--runs", help="Measured runs.")]
Batch = Annotated[int, typer.Option("--batch", help="Batch size.")]
SamplesOption = Annotated[
    Path | None, typer.Option("--samples", metavar="FILE", help="Write the wall and CPU time of every run as CSV.")
]
Layers = Annotated[
    bool,
    typer.Option(
        "--layers",
        help="Also list the slowest layers of an ONNX file and their modules; on the CPU, by ONNX Runtime.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 3 if the numbers are noisy, or the device was throttled.")
]
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
    layers: Layers = False,
    samples: SamplesOption = None,
    strict: Strict = False,
    trust_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure the latency of a model, or of two in alternation so that their ratio is fair.

    Each median has a 95 % interval, and a verdict: stable, noisy (a busy machine, for example) or throttled.
    """
    from prunekit_export.running import ProfileConfig

    config = ProfileConfig(
        height=height,
        width=width,
        batch=batch,
        provider=provider,
        threads=threads,
        warmup_runs=warmup,
        runs=runs,
        layers=layers,
    )
    paths = [model] if against is None else [model, against]
    for path in paths:
        check_model(path)
    _announce(config)
    report = _measure(paths, config, trust_code, samples)
    if as_json:
        output.show_json({"speed_up": report.speed_up, "report": report})
    else:
        _show(report)
    if strict and not report.is_stable:
        raise typer.Exit(NOT_STABLE)


def _measure(paths: list[Path], config: "ProfileConfig", trust_code: bool, samples: Path | None) -> "ProfileReport":
    def write(taken: "list[Samples]") -> None:
        if samples is not None:
            write_atomically(samples, _csv(paths, taken))

    from prunekit.run import write_atomically
    from prunekit_export.running import profile_models

    # No thread may repaint a bar while something is being timed.
    with Progress(repaint=False) as progress:
        return profile_models(
            paths,
            config,
            trust_code=trust_code,
            on_round=lambda done, all_: progress.advance("measuring", done, all_),
            on_samples=write,
        )


def _csv(paths: list[Path], taken: "list[Samples]") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "run", "wall_ms", "cpu_ms"])
    for path, samples in zip(paths, taken, strict=True):
        for number, (wall_ms, cpu_ms) in enumerate(zip(samples.wall_ms, samples.cpu_ms, strict=True)):
            writer.writerow([str(path), number, f"{wall_ms:.6f}", f"{cpu_ms:.6f}"])
    return text.getvalue().encode()


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
    runs = f"{report.models[0].latency.runs} runs each"
    columns = ("p50 (95 % interval)", "p99", "CPU", "images/s", "verdict")
    if any(entry.graph == "labels" for entry in report.models):
        rows = [(*_model(entry), _taken(entry), *_numbers(entry)) for entry in report.models]
        output.show(Table(f"Latency, {runs}", ("model", "ran on", "input and output", *columns), rows))
    else:
        rows = [(*_model(entry), *_numbers(entry)) for entry in report.models]
        title = f"Latency at {report.batch}x3x{report.height}x{report.width}, {runs}"
        output.show(Table(title, ("model", "ran on", *columns), rows))
    output.result(f"Peak memory of the process: {formats.file_size(report.peak_memory_bytes)}")
    if report.speed_up is not None and report.speed_up_interval is not None:
        first, last = report.models[0].model, report.models[-1].model
        low, high = report.speed_up_interval
        output.result(
            f"{first} is {report.speed_up:.2f} times as fast as {last} (95 % interval {low:.2f} to {high:.2f}; medians "
            "of alternating runs)."
        )
    for entry in report.models:
        if entry.layers:
            _show_layers(entry)
    for entry in report.models:
        for reason in entry.reasons:
            output.say(f"{entry.model}: {entry.verdict}: {reason}")


def _show_layers(entry: "ModelLatency") -> None:
    shown = entry.layers[:SHOWN_LAYERS]
    rows = [
        (layer.module or "-", layer.node, layer.op, formats.milliseconds(layer.ms), f"{100 * layer.share:.1f} %")
        for layer in shown
    ]
    rest = sum(layer.share for layer in entry.layers[SHOWN_LAYERS:])
    if rest:
        rows.append((f"({len(entry.layers) - len(shown)} others)", "", "", "", f"{100 * rest:.1f} %"))
    title = f"Layers of {entry.model}: {sum(layer.ms for layer in entry.layers):.2f} ms in all, timed one by one"
    output.show(Table(title, ("module", "node", "operator", "time", "share"), rows))


def _model(entry: "ModelLatency") -> tuple[str, str]:
    return str(entry.model), entry.ran_on


def _taken(entry: "ModelLatency") -> str:
    """Say what was timed: a whole, from pictures to labels, is no network alone."""
    shape = "x".join(map(str, entry.input_shape))
    return f"{'pictures' if entry.graph == 'labels' else 'images'} {shape} to {entry.graph}"


def _numbers(entry: "ModelLatency") -> tuple[str, ...]:
    latency = entry.latency
    p50, p99, cpu = map(formats.milliseconds, (latency.p50_ms, latency.p99_ms, entry.cpu_ms))
    low, high = (formats.milliseconds(value_ms).removesuffix(" ms") for value_ms in entry.interval_ms)
    return f"{p50} ({low} to {high})", p99, cpu, f"{latency.images_per_s:.1f}", entry.verdict
