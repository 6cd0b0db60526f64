"""A model on the device: measure and check it, or label pictures with it (bench, golden, predict)."""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from prunekit_runtime.errors import PrunekitError, RunnerUsageError
from prunekit_runtime.failures import exit_code_of, sentence_of
from prunekit_runtime.measuring.bench import MIN_AGREEMENT, BenchConfig, bench, make_golden
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.predicting import command as predicting
from prunekit_runtime.preprocessing import read_contract
from prunekit_runtime.running.ort import PROVIDERS
from prunekit_runtime.stopping import stop_code, stop_on_signals, stop_sentence
from prunekit_runtime.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit code: 0 is success, 1 a failure, also of a golden check or a picture, 2 wrong use; 130, 143, 129 follow
        Ctrl-C, SIGTERM and SIGHUP.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"{stop_sentence(stop)}\n")
        return stop_code(stop)
    except Exception as error:
        message = str(error) if isinstance(error, PrunekitError) else sentence_of(error)
        if message is None:
            raise
        sys.stderr.write(f"{printable(message)}\n")
        return exit_code_of(error)


def _bench(options: argparse.Namespace) -> int:
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


def _golden(options: argparse.Namespace) -> int:
    contract = read_contract(options.contract)
    golden = make_golden(options.model, contract, height=options.height, width=options.width, seed=options.seed)
    golden.save(options.out)
    sys.stdout.write(json.dumps({"golden": str(options.out), "input_shape": list(golden.images.shape)}) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m prunekit_runtime", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_bench(commands.add_parser("bench", help="measure a model file, and check it against its golden file"))
    _add_golden(commands.add_parser("golden", help="write a golden file from an ONNX file, with ONNX Runtime"))
    predicting.add_options(commands.add_parser("predict", help="label pictures: masks, overlays, contours"))
    return parser


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_bench)
    parser.add_argument("model", type=Path, help="ONNX file or TensorRT engine")
    parser.add_argument("--contract", type=Path, help="preprocessing.json: gives the size, and is timed and checked")
    parser.add_argument("--golden", type=Path, help="golden.npz: checked before measuring; exit code 1 if it fails")
    parser.add_argument("--min-agreement", type=_share, help=f"share of equal labels that passes ({MIN_AGREEMENT})")
    parser.add_argument("--provider", choices=tuple(PROVIDERS), help="of ONNX Runtime (default cpu)")
    parser.add_argument("--threads", type=_count, help="CPU threads of ONNX Runtime (default: its own choice)")
    parser.add_argument("--batch", type=_count, default=0, help="images a call (default: the model's, else 1)")
    parser.add_argument("--height", type=_count, default=0, help="height of the network's input [px]")
    parser.add_argument("--width", type=_count, default=0, help="width of the network's input [px]")
    parser.add_argument("--warmup", type=_count, default=20, help="calls before the clock starts (default 20)")
    parser.add_argument("--runs", type=_count, default=200, help="calls that are timed (default 200)")


def _add_golden(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_golden)
    parser.add_argument("model", type=Path, help="ONNX file, float32")
    parser.add_argument("--contract", type=Path, required=True, help="preprocessing.json")
    parser.add_argument("--out", type=Path, default=Path("golden.npz"), help="file to write (default golden.npz)")
    parser.add_argument("--height", type=_count, default=0, help="height of the picture [px] (default: the contract's)")
    parser.add_argument("--width", type=_count, default=0, help="width of the picture [px] (default: the contract's)")
    parser.add_argument("--seed", type=_count, default=0, help="seed of the synthetic picture (default 0)")


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 1]")
    return value


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
