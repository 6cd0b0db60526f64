"""`python3 -m prunekit_runtime bench` of a bundle: whole frames and their parts, and what they were measured on."""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Optional

from prunekit_runtime.building import find_built
from prunekit_runtime.bundle import Bundle, ModelEntry, open_bundle
from prunekit_runtime.commands.bench_words import samples_csv, summary
from prunekit_runtime.commands.choosing import chosen
from prunekit_runtime.commands.stepline import StepLine
from prunekit_runtime.errors import MeasureUsageError, PrunekitError, UsageError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.measuring.conditions import Conditions, read_conditions
from prunekit_runtime.measuring.frames import Samples, frame, measure_frames, median_interval_ms, ratio_of, verdict
from prunekit_runtime.measuring.power import Energy, Source, total_rail, watching
from prunekit_runtime.pictures.reading import read_picture
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.running.gpu import describe_gpu
from prunekit_runtime.running.nvml import Nvml, open_nvml
from prunekit_runtime.running.picturing import PictureModel, open_picture_model
from prunekit_runtime.text import printable

REPORT = "bench.json"


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model that ran once."""

    entry: ModelEntry
    path: Path
    model: PictureModel


@dataclasses.dataclass(frozen=True)
class Measured:
    """All models in alternation, and the machine before and after."""

    samples: "dict[str, Samples]"
    before: Conditions
    after: Conditions


def bench_bundle(options: argparse.Namespace) -> int:
    """Measure each model that was asked for, in alternation; 1 if one could not be run."""
    if options.cuda_graph and options.backend != "tensorrt":
        raise MeasureUsageError("--cuda-graph is for engines, and --backend ort runs none. Leave one of them out.")
    bundle = open_bundle(options.bundle)
    if not bundle.golden:
        raise MeasureUsageError("The bundle holds no golden picture to measure with. Write the bundle again.")
    picture_HW3 = read_picture(bundle.folder / bundle.golden[0].picture)
    failed: list[dict[str, str]] = []
    gpu = describe_gpu()
    with contextlib.ExitStack() as stack:
        card = stack.enter_context(_card(gpu.pci_bus_id if options.backend == "tensorrt" else None))
        opened = list(_opened(bundle, picture_HW3, options, stack, failed))
        measured = _measured(opened, picture_HW3, options, card)
        source = total_rail() or card
        benched = [_report(each, measured, _energy(each.model, picture_HW3, options.runs, source)) for each in opened]
    report = {
        "backend": options.backend,
        "picture": list(picture_HW3.shape[:2]),
        "warmup_runs": options.warmup,
        "cuda_graph": options.cuda_graph,
        "benched": benched,
        "paired": _paired(measured.samples),
        "failed": failed,
        "device": {**measured.before.device, "gpu": gpu.name},
        "conditions": {"before": measured.before.to_json(), "after": measured.after.to_json()},
    }
    write_whole(bundle.reports_dir / REPORT, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    if options.samples is not None:
        write_whole(options.samples, samples_csv({name: each.frame_ms for name, each in measured.samples.items()}))
    _show(report, options)
    return 1 if failed else 0


def _show(report: "dict[str, Any]", options: argparse.Namespace) -> None:
    sys.stdout.write(json.dumps(report, indent=1) + "\n" if options.json else printable(summary(report)))
    for failure in report["failed"]:
        sys.stderr.write(printable(f"{failure['entry']}: {failure['error']}\n"))


@contextlib.contextmanager
def _card(pci_bus_id: Optional[str]) -> Generator[Optional[Nvml], None, None]:
    nvml = open_nvml(pci_bus_id)
    try:
        yield nvml
    finally:
        if nvml is not None:
            nvml.close()


def _opened(
    bundle: Bundle,
    picture_HW3: ByteArray,
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
    failed: "list[dict[str, str]]",
) -> Generator[Opened, None, None]:
    """Open models, and label a picture with each; what fails is kept as a reason."""
    for entry in chosen(bundle.models, options.precision):
        try:
            path = find_built(bundle, entry, options.backend)
            model = open_picture_model(
                path, bundle.contract, graph=entry.graph, threads=options.threads, cuda_graph=options.cuda_graph
            )
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
            yield Opened(entry, path, model)


def _measured(
    opened: "list[Opened]", picture_HW3: ByteArray, options: argparse.Namespace, card: Optional[Nvml]
) -> Measured:
    models = {each.entry.name: (each.model, picture_HW3) for each in opened}
    before = read_conditions(card)
    if not models:
        return Measured({}, before, before)
    line = StepLine()
    try:
        samples = measure_frames(
            models,
            runs=options.runs,
            warmup_runs=options.warmup,
            on_frame=lambda done, rounds: line(f"measuring {', '.join(models)}: round {done}/{rounds}"),
        )
        return Measured(samples, before, read_conditions(card))
    finally:
        line.close()


def _report(each: Opened, measured: Measured, energy: Energy) -> "dict[str, Any]":
    samples = measured.samples[each.entry.name]
    latency, compute = samples.latency(), samples.compute()
    judged, reasons = verdict(samples.frame_ms, measured.before, measured.after)
    return {
        "entry": each.entry.name,
        "precision": each.entry.precision,
        "graph": each.entry.graph,
        "ran_on": each.model.name,
        "path": str(each.path),
        "latency": latency.to_json(),
        "median_interval_ms": median_interval_ms(samples.frame_ms),
        "compute": None if compute is None else compute.to_json(),
        "parts_ms": samples.medians_ms(),
        "joules_per_frame": energy.joules_each(latency.runs),
        "power": energy.to_json(),
        "verdict": judged,
        "reasons": reasons,
    }


def _energy(model: PictureModel, picture_HW3: ByteArray, runs: int, source: Optional[Source]) -> Energy:
    """Watch the power while one model alone labels pictures; not at all where nothing tells it."""
    with watching(source) as energy:
        for _ in range(runs if source is not None else 0):
            frame(model, picture_HW3)
    return energy


def _paired(samples: "dict[str, Samples]") -> "Optional[dict[str, Any]]":
    """Return the second model's frame over the first one's, where two were measured."""
    if len(samples) != 2:
        return None
    first, second = samples
    return {"of": second, "over": first, **ratio_of(samples[first].frame_ms, samples[second].frame_ms)}
