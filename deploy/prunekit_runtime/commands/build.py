"""`python3 -m prunekit_runtime build`: build a bundle's engines on this device, unless those that are there fit."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prunekit_runtime.building import BACKENDS, BuildOptions, Built, build_engine
from prunekit_runtime.commands.choosing import ALL, chosen
from prunekit_runtime.commands.stepline import StepLine
from prunekit_runtime.errors import PrunekitError, UsageError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.text import printable

REPORT = "build.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument("--bundle", type=Path, default=Path(), metavar="DIR", help="the bundle (default: this folder)")
    parser.add_argument("--precision", default=ALL, metavar="fp32|fp16|int8|all", help="models to build (default: all)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="tensorrt", help="ort opens the ONNX file on the CPU (default: tensorrt)"
    )
    parser.add_argument(
        "--workspace", type=int, metavar="MIB", help="memory to try kernels in (default: TensorRT's own)"
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        metavar="0..5",
        help="0 builds fastest, 5 looks longest (default: TensorRT's, 3)",
    )
    for name, text in (("min", "smallest"), ("opt", "tuned"), ("max", "largest")):
        parser.add_argument(
            f"--{name}", type=_shape, metavar="NxCxHxW", help=f"{text} size, where the bundle leaves sizes open"
        )
    parser.add_argument("--tf32", action="store_true", help="let float32 layers round to 10 bits of mantissa")
    parser.add_argument("--force", action="store_true", help="build although a fitting engine is there")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def command(options: argparse.Namespace) -> int:
    """Build each model that was asked for; 1 if one failed, after all were tried."""
    from prunekit_runtime.bundle import open_bundle

    bundle = open_bundle(options.bundle)
    wanted = BuildOptions(
        workspace_mib=options.workspace,
        optimization_level=options.optimization_level,
        minimum=options.min,
        optimum=options.opt,
        maximum=options.max,
        tf32=options.tf32,
        force=options.force,
    )
    built: list[Built] = []
    failed: list[dict[str, str]] = []
    for entry in chosen(bundle.models, options.precision):
        try:
            built.append(_build(bundle, entry, wanted, options))
        except UsageError:
            raise  # the request has to change, for every model
        except Exception as error:
            failed.append({"entry": entry.name, "error": _told(error)})
    report = {"backend": options.backend, "built": [each.to_json() for each in built], "failed": failed}
    write_whole(bundle.reports_dir / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    if options.json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    for failure in failed:
        sys.stderr.write(printable(f"{failure['entry']}: {failure['error']}\n"))
    return 1 if failed else 0


def summary(built: Built) -> str:
    """Return what was built, for people."""
    record, made = built.record, built.record.made
    layers = made.get("layers")
    if layers is None:
        version = record.bound_to["package_version"]
        return f"{record.entry}: nothing to build, {built.path} opens in ONNX Runtime {version} on the CPU"
    state = f"built in {made['seconds']} s" if built.is_new else "kept, since its key fits"
    shares = ", ".join(f"{100 * share:.0f} % {kind}" for kind, share in layers["products_by_precision"].items())
    tf32 = "on" if made["tf32"] else "off"
    return (
        f"{record.entry}: {built.path} ({record.engine_bytes / 2**20:.1f} MiB), {state}\n"
        f"  {layers['products']} convolutions and matrix products: {shares or 'none'}; TF32 {tf32}"
    )


def _build(bundle: Any, entry: Any, wanted: BuildOptions, options: argparse.Namespace) -> Built:
    line = StepLine()
    try:
        built = build_engine(
            bundle, entry, wanted, backend=options.backend, on_step=lambda text: line(f"{entry.name}: {text}")
        )
    finally:
        line.close()
    if not options.json:
        sys.stdout.write(printable(summary(built)) + "\n")
    return built


def _told(error: Exception) -> str:
    message = str(error) if isinstance(error, PrunekitError) else sentence_of(error)
    if message is None:
        raise error
    return message


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.lower().split("x"))
    if len(sizes) != 4 or min(sizes) < 1 or max(sizes) > 1 << 16:
        raise argparse.ArgumentTypeError(f"{text} is no shape; give four sizes, such as 1x3x512x1024")
    return sizes
