"""`python3 -m prunekit_runtime bench`: measure a bundle's models, or one model file with its golden file."""

import argparse
import json
import sys
from pathlib import Path

from prunekit_runtime.building import BACKENDS
from prunekit_runtime.commands.bundle_bench import bench_bundle
from prunekit_runtime.commands.choosing import ALL
from prunekit_runtime.commands.numbers import count, share
from prunekit_runtime.errors import RunnerUsageError
from prunekit_runtime.measuring.bench import MIN_AGREEMENT, BenchConfig, bench
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.preprocessing import read_contract
from prunekit_runtime.running.ort import PROVIDERS

_OF_BUNDLES = ("bundle", "precision", "backend", "samples", "json")
_OF_FILES = ("contract", "golden", "provider", "batch", "height", "width")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument("model", type=Path, nargs="?", help="ONNX file or TensorRT engine; without it, a bundle's")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle (default: this folder)")
    parser.add_argument("--precision", metavar="fp32|fp16|int8|all", help="models of the bundle (default: all)")
    parser.add_argument(
        "--backend", choices=BACKENDS, help="for a bundle; ort runs the ONNX file on the CPU (default: tensorrt)"
    )
    parser.add_argument("--samples", type=Path, metavar="FILE", help="write the time of every frame as CSV")
    parser.add_argument("--json", action="store_true", help="print a bundle's report as JSON")
    parser.add_argument("--contract", type=Path, help="preprocessing.json: gives the size, and is timed and checked")
    parser.add_argument("--golden", type=Path, help="golden.npz: checked before measuring; exit code 1 if it fails")
    parser.add_argument("--min-agreement", type=share, help=f"share of equal labels that passes ({MIN_AGREEMENT})")
    parser.add_argument("--provider", choices=tuple(PROVIDERS), help="of ONNX Runtime (default cpu)")
    parser.add_argument("--threads", type=count, help="CPU threads of ONNX Runtime (default: its own choice)")
    parser.add_argument("--batch", type=count, default=0, help="images a call (default: the model's, else 1)")
    parser.add_argument("--height", type=count, default=0, help="height of the network's input [px]")
    parser.add_argument("--width", type=count, default=0, help="width of the network's input [px]")
    parser.add_argument("--cuda-graph", action="store_true", help="launch an engine's kernels as one CUDA graph")
    parser.add_argument("--warmup", type=count, default=20, help="calls before the clock starts (default 20)")
    parser.add_argument("--runs", type=count, default=200, help="calls that are timed (default 200)")


def command(options: argparse.Namespace) -> int:
    """Measure; 1 if a golden check failed, or a model of a bundle could not be run."""
    if options.model is None:
        return bench_bundle(_for_bundle(options))
    given = [name for name in _OF_BUNDLES if getattr(options, name)]
    if given:
        raise RunnerUsageError(f"--{given[0]} is about a bundle, and {options.model} is a file. Leave one of them out.")
    if options.min_agreement is not None and not options.golden:
        raise RunnerUsageError(
            "--min-agreement judges a golden check, and there is no --golden. Give both, or neither."
        )
    report = bench(
        BenchConfig(
            model=options.model,
            contract=read_contract(options.contract) if options.contract else None,
            golden=GoldenCheck.load(options.golden) if options.golden else None,
            provider=options.provider,
            threads=options.threads,
            cuda_graph=options.cuda_graph,
            batch=options.batch,
            height=options.height,
            width=options.width,
            warmup_runs=options.warmup,
            runs=options.runs,
            min_agreement=MIN_AGREEMENT if options.min_agreement is None else options.min_agreement,
        )
    )
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 1 if report["golden_passed"] is False else 0


def _for_bundle(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options of a bundle with their defaults."""
    given = [name for name in _OF_FILES if getattr(options, name)]
    if given:
        raise RunnerUsageError(f"--{given[0]} is about a model file, which the bundle describes itself. Leave it out.")
    options.bundle = options.bundle or Path()
    options.precision, options.backend = options.precision or ALL, options.backend or "tensorrt"
    return options
