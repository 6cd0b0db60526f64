"""`python3 -m prunekit_runtime bench` of a bundle: whole frames and their parts, and what they were measured on."""

import argparse
import contextlib
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, Optional

from prunekit_runtime.building import find_built
from prunekit_runtime.bundle import Bundle, ModelEntry, open_bundle
from prunekit_runtime.commands.choosing import chosen
from prunekit_runtime.commands.stepline import StepLine
from prunekit_runtime.errors import MeasureUsageError, PrunekitError, UsageError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.measuring.frames import Samples, frame, measure_frames, median_interval_ms, ratio_of, verdict
from prunekit_runtime.measuring.power import Energy, total_rail, watching
from prunekit_runtime.pictures.reading import read_picture
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.gpu import describe_gpu
from prunekit_runtime.running.picturing import PictureModel, open_picture_model
from prunekit_runtime.text import printable

REPORT = "bench.json"


def bench_bundle(options: argparse.Namespace) -> int:
    """Measure each model that was asked for, in alternation; 1 if one could not be run."""
    bundle = open_bundle(options.bundle)
    if not bundle.golden:
        raise MeasureUsageError("The bundle holds no golden picture to measure with. Write the bundle again.")
    picture_HW3 = read_picture(bundle.folder / bundle.golden[0].picture)
    failed: list[dict[str, str]] = []
    device = describe_device()
    with contextlib.ExitStack() as stack:
        opened = _opened(bundle, picture_HW3, options, stack, failed)
        models = {name: (model, picture_HW3) for name, (_, model, _) in opened.items()}
        samples = _measured(models, options) if models else {}
        after = describe_device()
        benched = [
            _report(entry, path, model, picture_HW3, samples[name], options, device, after)
            for name, (entry, model, path) in opened.items()
        ]
    report = {
        "backend": options.backend,
        "benched": benched,
        "paired": _paired(samples),
        "failed": failed,
        "device": {**device, "gpu": describe_gpu().name},
    }
    write_whole(bundle.reports_dir / REPORT, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    if options.samples is not None:
        write_whole(options.samples, _csv(samples))
    if options.json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        sys.stdout.write(printable(_summary(report)))
    for failure in failed:
        sys.stderr.write(printable(f"{failure['entry']}: {failure['error']}\n"))
    return 1 if failed else 0


Opened = dict[str, "tuple[ModelEntry, PictureModel, Path]"]


def _opened(
    bundle: Bundle,
    picture_HW3: ByteArray,
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
    failed: "list[dict[str, str]]",
) -> Opened:
    """Open models, and label a picture with each; what fails is kept as a reason."""
    opened: Opened = {}
    for entry in chosen(bundle.models, options.precision):
        try:
            path = find_built(bundle, entry, options.backend)
            model = open_picture_model(path, bundle.contract, graph=entry.graph, threads=options.threads)
            stack.enter_context(model)
            frame(model, picture_HW3)
        except UsageError:
            raise  # the request has to change, for every model
        except Exception as error:
            sentence = str(error) if isinstance(error, PrunekitError) else sentence_of(error)
            if sentence is None:
                raise
            failed.append({"entry": entry.name, "error": sentence})
        else:
            opened[entry.name] = (entry, model, path)
    return opened


def _measured(models: "dict[str, tuple[PictureModel, ByteArray]]", options: argparse.Namespace) -> "dict[str, Samples]":
    line = StepLine()
    try:
        return measure_frames(
            models,
            runs=options.runs,
            warmup_runs=options.warmup,
            on_frame=lambda done, rounds: line(f"measuring {', '.join(models)}: round {done}/{rounds}"),
        )
    finally:
        line.close()


def _report(
    entry: ModelEntry,
    path: Path,
    model: PictureModel,
    picture_HW3: ByteArray,
    samples: Samples,
    options: argparse.Namespace,
    before: "dict[str, Any]",
    after: "dict[str, Any]",
) -> "dict[str, Any]":
    compute = samples.compute(options.warmup)
    energy = _energy(model, picture_HW3, options.runs)
    temperatures = [each["temperatures_celsius"] for each in (before, after)]
    judged, reasons = verdict(samples.frame_ms, *temperatures)
    conditions = {
        name: {key: each[key] for key in ("temperatures_celsius", "power_mode", "cpu_governor")}
        for name, each in (("before", before), ("after", after))
    }
    return {
        "entry": entry.name,
        "precision": entry.precision,
        "graph": entry.graph,
        "ran_on": model.name,
        "path": str(path),
        "picture": list(picture_HW3.shape[:2]),
        "latency": samples.latency(options.warmup).to_json(),
        "median_interval_ms": median_interval_ms(samples.frame_ms),
        "compute": None if compute is None else compute.to_json(),
        "parts_ms": samples.medians_ms(),
        "cuda_graph": False,
        "joules_per_frame": energy.joules_each(options.runs),
        "power": energy.to_json(),
        "verdict": judged,
        "reasons": reasons,
        "conditions": conditions,
    }


def _energy(model: PictureModel, picture_HW3: ByteArray, runs: int) -> Energy:
    """Watch the board's power while one model alone labels pictures; not at all where it has no sensor."""
    rail = total_rail()
    with watching(rail) as energy:
        for _ in range(runs if rail is not None else 0):
            frame(model, picture_HW3)
    return energy


def _paired(samples: "dict[str, Samples]") -> "Optional[dict[str, Any]]":
    """Return the second model's frame over the first one's, where two were measured."""
    if len(samples) != 2:
        return None
    first, second = samples
    return {"of": second, "over": first, **ratio_of(samples[first].frame_ms, samples[second].frame_ms)}


def _csv(samples: "dict[str, Samples]") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "frame", "ms"])
    for name, taken in samples.items():
        writer.writerows([name, number, f"{value_ms:.6f}"] for number, value_ms in enumerate(taken.frame_ms))
    return text.getvalue().encode()


def _summary(report: "dict[str, Any]") -> str:
    lines: list[str] = []
    for each in report["benched"]:
        latency, parts = each["latency"], each["parts_ms"]
        low_ms, high_ms = each["median_interval_ms"]
        shown = ", ".join(f"{part} {value:.2f}" for part, value in parts.items() if value is not None)
        joules = each["joules_per_frame"]
        interval = f"95 % interval {low_ms:.2f} to {high_ms:.2f}"
        lines.append(
            f"{each['entry']}: {latency['p50_ms']:.2f} ms a frame ({interval}), p99 {latency['p99_ms']:.2f}, "
            f"{each['verdict']}; {each['ran_on']}"
        )
        lines.append(f"  parts [ms]  {shown}")
        lines.append(f"  energy      {each['power']['reason'] if joules is None else f'{joules:.4f} J a frame'}")
        lines += [f"  {each['verdict']}: {reason}" for reason in each["reasons"]]
    paired = report["paired"]
    if paired is not None:
        lines.append(
            f"{paired['of']} takes {paired['ratio']:.3f} times as long as {paired['over']} "
            f"(95 % interval {paired['low']:.3f} to {paired['high']:.3f})"
        )
    return "".join(f"{line}\n" for line in lines)
