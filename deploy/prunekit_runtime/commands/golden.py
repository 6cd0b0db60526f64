"""`python3 -m prunekit_runtime golden`: write a golden file from an ONNX file, with ONNX Runtime."""

import argparse
import json
import sys
from pathlib import Path

from prunekit_runtime.commands.numbers import count
from prunekit_runtime.measuring.bench import make_golden
from prunekit_runtime.preprocessing import read_contract


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument("model", type=Path, help="ONNX file, float32")
    parser.add_argument("--contract", type=Path, required=True, help="preprocessing.json")
    parser.add_argument("--out", type=Path, default=Path("golden.npz"), help="file to write (default golden.npz)")
    parser.add_argument("--height", type=count, default=0, help="height of the picture [px] (default: the contract's)")
    parser.add_argument("--width", type=count, default=0, help="width of the picture [px] (default: the contract's)")
    parser.add_argument("--seed", type=count, default=0, help="seed of the synthetic picture (default 0)")


def command(options: argparse.Namespace) -> int:
    """Write the golden file and print where it lies as JSON."""
    contract = read_contract(options.contract)
    golden = make_golden(options.model, contract, height=options.height, width=options.width, seed=options.seed)
    golden.save(options.out)
    sys.stdout.write(json.dumps({"golden": str(options.out), "input_shape": list(golden.images.shape)}) + "\n")
    return 0
