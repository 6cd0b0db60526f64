"""`python3 -m prunekit_runtime predict`: label pictures on the device, with numpy and the model's own runtime."""

import argparse
import json
import sys
from pathlib import Path

from prunekit_runtime.classes import MAX_CLASSES, classes_beside, numbered
from prunekit_runtime.commands.numbers import positive
from prunekit_runtime.commands.stepline import Complaints
from prunekit_runtime.errors import PictureUsageError
from prunekit_runtime.pictures.reading import SUFFIXES
from prunekit_runtime.predicting.drawing import KINDS, Style
from prunekit_runtime.predicting.items import picture_items
from prunekit_runtime.predicting.job import (
    PredictReport,
    Tally,
    chosen_kinds,
    report,
    run_items,
    target,
    write_pictures,
)
from prunekit_runtime.predicting.labelling import Labeller, batch_size
from prunekit_runtime.predicting.naming import refuse_existing
from prunekit_runtime.predicting.sources import find_sources
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import read_contract
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.ort import PROVIDERS
from prunekit_runtime.text import printable

CONTRACT = "preprocessing.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument("model", type=Path, help="ONNX file or TensorRT engine")
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="source",
        help="picture (PNG, PPM; JPEG with Pillow or OpenCV), folder or pattern",
    )
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write to (predictions)")
    parser.add_argument("--as", dest="kinds", action="append", default=[], metavar="KIND", help=" | ".join(KINDS))
    parser.add_argument("--alpha", type=float, default=0.5, help="share of the colour in an overlay (0.5)")
    parser.add_argument("--contract", type=Path, help=f"preprocessing contract (default: {CONTRACT} beside the model)")
    parser.add_argument("--provider", choices=tuple(PROVIDERS), help="of ONNX Runtime (default cpu)")
    parser.add_argument("--threads", type=positive, help="CPU threads of ONNX Runtime (default: its own choice)")
    parser.add_argument("--batch-size", type=positive, help="pictures a run (default: the model's, else 1)")
    parser.add_argument("--overwrite", action="store_true", help="write over results that are there already")


def command(options: argparse.Namespace) -> int:
    """Label the pictures and print a report as JSON; 1 if one of them could not be labelled."""
    tally = Tally()
    try:
        outcome = _predict(options, tally)
    except BaseException:
        if tally.written:
            sys.stderr.write(printable(f"{tally.written} pictures are done and lie in {options.out}.\n"))
        raise
    sys.stdout.write(json.dumps(outcome.to_json(), indent=2) + "\n")
    return 1 if outcome.failed else 0


def _predict(options: argparse.Namespace, tally: Tally) -> PredictReport:
    kinds, out_dir = chosen_kinds(options.kinds), Path(options.out)
    classes = classes_beside(options.model)
    style = Style((classes or numbered(MAX_CLASSES)).palette, options.alpha)
    sources = find_sources(options.sources, SUFFIXES, leave_out=out_dir).sources
    items = picture_items(sources)
    targets = [target(out_dir, kind, item.stem) for kind in kinds for item in items]
    refuse_existing(targets, [source.path for source in sources], overwrite=options.overwrite)
    contract_path = options.contract or options.model.parent / CONTRACT
    if not contract_path.exists():
        raise PictureUsageError(
            f"{contract_path} does not exist. It is exported beside the model; name it with --contract."
        )
    contract = read_contract(contract_path)
    with open_runner(options.model, provider=options.provider, threads=options.threads, graph=None) as runner:
        batch = batch_size(runner, options.batch_size)
        labeller = Labeller(runner, contract, batch, None if classes is None else len(classes))
        stopwatch = Stopwatch()
        write = write_pictures(out_dir, kinds, style)
        run_items(labeller, items, write, tally=tally, stopwatch=stopwatch, on_item=Complaints())
        return report(options.model, labeller, classes, out_dir, kinds, tally, stopwatch)
