"""`python3 -m prunekit_runtime doctor`: what is on this device, and which commands can run here."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prunekit_runtime.building import BACKENDS
from prunekit_runtime.doctoring import (
    Ability,
    Finding,
    abilities,
    bundle_findings,
    machine_findings,
    package_findings,
)
from prunekit_runtime.errors import BuildUsageError
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.gpu import describe_gpu
from prunekit_runtime.text import printable

_MARKS = {"ok": "ok", "note": "note", "missing": "MISSING"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle to look at (default: this folder)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="tensorrt", help="what the exit code is about (default: tensorrt)"
    )
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON")


def command(options: argparse.Namespace) -> int:
    """Print what was found; 1 if commands cannot run with the backend."""
    if options.bundle is not None and not options.bundle.is_dir():
        raise BuildUsageError(f"{options.bundle} is no folder. Name the bundle's, or leave out --bundle.")
    report = examine(options.bundle or Path())
    if options.json:
        sys.stdout.write(json.dumps(_as_json(*report), indent=1) + "\n")
    else:
        sys.stdout.write(printable(as_text(*report)))
    return 0 if all(each.works for each in report[1] if each.backend == options.backend) else 1


def examine(folder: Path) -> tuple[list[Finding], tuple[Ability, ...], dict[str, Any]]:
    """Look at the machine and at a bundle's folder: what is there, what can be done, the device."""
    gpu, device = describe_gpu(), describe_device()
    findings = [*machine_findings(gpu, device, folder), *package_findings()]
    with_engines = all(each.state != "missing" for each in findings if each.subject in ("TensorRT", "GPU"))
    findings += bundle_findings(folder, has_tensorrt=with_engines)
    return findings, abilities(findings), {**device, "gpu_facts": gpu.to_json()}


def as_text(findings: list[Finding], can: tuple[Ability, ...], _device: dict[str, Any]) -> str:
    """Return the findings as lines for people."""
    width = max(len(each.subject) for each in findings)
    lines: list[str] = []
    for each in findings:
        lines.append(f"{each.subject:<{width}}  {_MARKS[each.state]:<7}  {each.found}")
        if each.remedy and each.state != "ok":
            lines.append(f"{'':<{width}}           {each.remedy}")
    lines.append("")
    for ability in can:
        verdict = "can be done" if ability.works else f"cannot be done, for want of {', '.join(ability.lacks)}"
        lines.append(f"{ability.name}: {verdict}")
    return "\n".join(lines) + "\n"


def _as_json(findings: list[Finding], can: tuple[Ability, ...], device: dict[str, Any]) -> dict[str, Any]:
    return {
        "findings": [each.to_json() for each in findings],
        "abilities": [each.to_json() for each in can],
        "device": device,
    }
