"""`python3 -m prunekit_runtime check`: golden pictures through a bundle's models on this device."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prunekit_runtime.building import BACKENDS, built_with_tf32, find_built
from prunekit_runtime.bundle import Bundle, ModelEntry, open_bundle
from prunekit_runtime.checking import Gates, Report, check
from prunekit_runtime.commands.choosing import ALL, chosen
from prunekit_runtime.commands.numbers import count, share
from prunekit_runtime.commands.stepline import StepLine
from prunekit_runtime.errors import PrunekitError, UsageError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.text import printable

REPORT = "check.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    gates = Gates()
    parser.set_defaults(command=command)
    parser.add_argument("--bundle", type=Path, default=Path(), metavar="DIR", help="the bundle (default: this folder)")
    parser.add_argument("--precision", default=ALL, metavar="fp32|fp16|all", help="models to check (default: all)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="tensorrt", help="ort runs the ONNX file on the CPU (default: tensorrt)"
    )
    parser.add_argument("--threads", type=count, help="CPU threads of ONNX Runtime (default: its own choice)")
    parser.add_argument(
        "--min-agreement", type=share, default=gates.agreement, help=f"share of equal labels ({gates.agreement})"
    )
    parser.add_argument(
        "--min-edge-agreement",
        type=share,
        default=gates.edge_agreement,
        help=f"the same beside edges ({gates.edge_agreement})",
    )
    parser.add_argument(
        "--min-class-iou", type=share, default=gates.class_iou, help=f"IoU of each class ({gates.class_iou})"
    )
    parser.add_argument(
        "--max-miou-drop",
        type=share,
        default=gates.miou_drop,
        help=f"mIoU that may be lost against the true labels ({gates.miou_drop})",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def command(options: argparse.Namespace) -> int:
    """Check each model that was asked for; 1 if one misses a gate or cannot be run, after all were tried."""
    bundle = open_bundle(options.bundle)
    gates = Gates(options.min_agreement, options.min_edge_agreement, options.min_class_iou, options.max_miou_drop)
    checked: list[Report] = []
    failed: list[dict[str, str]] = []
    for entry in chosen(bundle.models, options.precision):
        try:
            checked.append(_check(bundle, entry, gates, options))
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
