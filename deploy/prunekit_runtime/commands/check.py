"""`python3 -m prunekit_runtime check`: golden pictures through a bundle's models on this device."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from prunekit_runtime.building import BACKENDS, built_with_tf32, find_built
from prunekit_runtime.bundle import Bundle, ModelEntry, open_bundle
from prunekit_runtime.checking import Gates, Report, check, usual_gates
from prunekit_runtime.commands.choosing import ALL, chosen
from prunekit_runtime.commands.numbers import count, share
from prunekit_runtime.commands.stepline import StepLine
from prunekit_runtime.errors import PrunekitError, UsageError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.text import printable

REPORT = "check.json"
_GATES = (
    ("--min-agreement", "agreement", "share of equal labels"),
    ("--min-edge-agreement", "edge_agreement", "the same beside edges"),
    ("--min-class-iou", "class_iou", "IoU of each class"),
    ("--max-miou-drop", "miou_drop", "mIoU that may be lost against the true labels"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    gates, eight_bits = Gates(), usual_gates("int8")
    parser.set_defaults(command=command)
    parser.add_argument("--bundle", type=Path, default=Path(), metavar="DIR", help="the bundle (default: this folder)")
    parser.add_argument("--precision", default=ALL, metavar="fp32|fp16|int8|all", help="models to check (default: all)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="tensorrt", help="ort runs the ONNX file on the CPU (default: tensorrt)"
    )
    parser.add_argument("--threads", type=count, help="CPU threads of ONNX Runtime (default: its own choice)")
    for name, field, words in _GATES:
        usual = f"{getattr(gates, field)}, in int8 {getattr(eight_bits, field)}"
        parser.add_argument(name, type=share, help=f"{words} ({usual})")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def command(options: argparse.Namespace) -> int:
    """Check each model that was asked for; 1 if one misses a gate or cannot be run, after all were tried."""
    bundle = open_bundle(options.bundle)
    checked: list[Report] = []
    failed: list[dict[str, str]] = []
    for entry in chosen(bundle.models, options.precision):
        try:
            checked.append(_check(bundle, entry, _gates(entry.precision, options), options))
        except UsageError:
            raise  # the request has to change, for every model
        except Exception as error:
            failed.append({"entry": entry.name, "error": _told(error)})
    report = {
        "backend": options.backend,
        "checked": [each.to_json() for each in checked],
        "failed": failed,
        "passed": not failed and all(each.passed for each in checked),
    }
    write_whole(bundle.reports_dir / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    if options.json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        for each in checked:
            sys.stdout.write(printable(_summary(each)))
    for failure in failed:
        sys.stderr.write(printable(f"{failure['entry']}: {failure['error']}\n"))
    return 0 if report["passed"] else 1


def _gates(precision: str, options: argparse.Namespace) -> Gates:
    """Return the usual limits of a precision, but for those that were given."""
    asked = {field: getattr(options, name[2:].replace("-", "_")) for name, field, _ in _GATES}
    return dataclasses.replace(
        usual_gates(precision), **{field: value for field, value in asked.items() if value is not None}
    )


def _check(bundle: Bundle, entry: ModelEntry, gates: Gates, options: argparse.Namespace) -> Report:
    line = StepLine()
    try:
        return check(
            bundle,
            entry,
            find_built(bundle, entry, options.backend),
            arithmetic=_arithmetic(bundle, entry, options.backend),
            gates=gates,
            threads=options.threads,
            on_picture=lambda done, pictures: line(f"{entry.name}: golden picture {done}/{pictures}"),
        )
    finally:
        line.close()


def _arithmetic(bundle: Bundle, entry: ModelEntry, backend: str) -> str:
    """Return "tf32" for an engine whose float32 layers were allowed to round, else the precision."""
    tf32 = backend == "tensorrt" and entry.precision == "fp32" and built_with_tf32(bundle, entry)
    return "tf32" if tf32 else entry.precision


def _summary(report: Report) -> str:
    measured = report.measured
    verdict = "passed" if report.passed else "FAILED"
    lines = [f"{report.entry}: {verdict}, {report.pictures} golden pictures, {report.ran_on}"]
    lines.append(f"  labels   {measured.agreement:.3%} as expected{_edges(measured.edge_agreement)}")
    if measured.miou is not None and measured.expected_miou is not None:
        lines.append(f"  mIoU     {measured.miou:.4f}, expected {measured.expected_miou:.4f}")
    if measured.logit_error is not None:
        lines.append(f"  logits   off by {measured.logit_error:.1e} of the largest")
    lines += [f"  FAILED   {sentence}" for sentence in report.failures]
    return "\n".join(lines) + "\n"


def _edges(edge_agreement: Any) -> str:
    return "" if edge_agreement is None else f", {edge_agreement:.2%} beside edges"


def _told(error: Exception) -> str:
    sentence = str(error) if isinstance(error, PrunekitError) else sentence_of(error)
    if sentence is None:
        raise error
    return sentence
