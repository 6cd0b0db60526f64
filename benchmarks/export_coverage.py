"""How many segmentation networks export, dense and with half of their channels, in fp32, fp16 and int8.

    pip install transformers tensorrt-rtx-cu13
    python benchmarks/export_coverage.py --out runs/export_coverage --jobs 2

The networks are those of benchmarks/coverage.py, with random weights, at 128x256 unless they are built for another size. Each
row, a network as it is (dense) or with half of the units of every free group removed (half), runs in a process of its own
and leaves a JSON file in --out; started again, the benchmark does what is missing. `--only REGEX` picks rows by name,
`--table` writes docs/results/export_coverage.md from what is there.

fp32: the file is compared with torch at three drawn images of its size (fixed), and, exported again with open sizes (open), at
five shapes of which two are off the stride; passed are relative errors of at most 1e-4 and 99.99 % of the labels. fp16:
compared in the same way, each result rounded to fp16, with the export's own limits (2e-2, 99 % of the labels that are
decided). int8: calibrated on eight drawn images; passed where the export makes it, it computes at least half of the
multiply-accumulates in int8 and the labels on four other images are the float32 file's on 90 % of the pixels. The weights are
not trained, so classes lie closer than in a network of use. Engines are built by TensorRT-RTX ahead of time for SM86, and
not run.
"""

import argparse
import dataclasses
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from coverage import half_of
from coverage_networks import CLASSES, CONFIGS, IMAGE_HW, Case, all_cases, make_lively
from export_coverage_table import write_table
from processes import Limits, Row, Task, file_name, read_row, run_all, write_row
from torch import nn

from prunekit.models.segmenter import Segmenter
from prunekit.pruning import analyse, pruned
from prunekit.pruning.surgery import make_plan
from prunekit_export.engine import EngineOptions, build_engine
from prunekit_export.graph import export_onnx
from prunekit_export.job import Job
from prunekit_export.lowering import write_half, write_int8
from prunekit_export.padding import at_any_size
from prunekit_export.parity import ParityReport, parity, parity_shapes
from prunekit_export.precision import FP16
from prunekit_export.request import ExportRequest
from prunekit_export.sizing import engine_profile
from prunekit_export.staging import Stage, staged
from prunekit_runtime.preprocessing import Preprocessing

VARIANTS = ("dense", "half")
SMALL_HW = (128, 256)
ROOT = Path(__file__).parent.parent
STRIDES = {"smp": 32, "transformers": 32, "torchvision": 1, "pattern": 8}
"""To which open sizes are padded, as a user would say."""
PATTERN_CLASSES = 4
MAX_ERROR, MIN_LABELS, MIN_INT8_LABELS = 1e-4, 0.9999, 0.9


def main() -> None:
    """Run what is missing, then write the table."""
    args = _arguments()
    if args.row:
        case = all_cases(args.row.partition("/")[0])[args.row]
        write_row(
            args.out / file_name(args.row, args.variant), measure(case, args.variant, engines=not args.no_engines)
        )
        return
    names = [name for name in all_cases() if re.search(args.only, name)]
    args.out.mkdir(parents=True, exist_ok=True)
    # Dense ones first, and in drawn order: a run that is cut short has seen something of every library.
    drawn = random.Random(0).sample(names, len(names))
    keys = [(name, variant) for variant in args.variants for name in drawn]
    if not args.table:
        run_all([_task(*key, args) for key in keys], args.jobs, Limits(args.limit_s, args.limit_gib))
    rows = {
        (name, variant): read_row(args.out / file_name(name, variant)) for name in names for variant in args.variants
    }
    write_table({key: row for key, row in rows.items() if row}, args.to, __doc__ or "", len(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/export_coverage"), help="folder of the JSON files")
    parser.add_argument("--to", type=Path, default=ROOT / "docs/results/export_coverage.md", help="the table's file")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each")
    parser.add_argument("--limit-s", type=float, default=300, help="time limit of a process, start included")
    parser.add_argument("--limit-gib", type=float, default=10, help="memory limit of a process")
    parser.add_argument("--no-engines", action="store_true", help="build none")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--variant", choices=VARIANTS, default="dense", help=argparse.SUPPRESS)
    return parser.parse_args()


def _task(name: str, variant: str, args: argparse.Namespace) -> Task:
    command = [sys.executable, __file__, "--row", name, "--variant", variant, "--out", str(args.out)]
    return Task(
        f"{variant:5} {name}", [*command, *["--no-engines"][: args.no_engines]], args.out / file_name(name, variant)
    )


def measure(case: Case, variant: str, *, engines: bool = True) -> Row:
    """Export one network in every way; what fails is a result with its reason."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    begun_s = time.process_time()
    library = case.name.partition("/")[0]
    case = dataclasses.replace(case, image_HW=_size(case))
    row: Row = {"status": "done", "image_HW": list(case.image_HW)}
    try:
        network = _built(case, variant)
    except Exception as error:  # a library's refusal is a result
        return {**row, "status": "not built", "error": _text(error)}
    segmenter = Segmenter(network, PATTERN_CLASSES if library == "pattern" else CLASSES, STRIDES[library]).eval()
    row["steps"] = {name: _tried(step) for name, step in _steps(segmenter, case.image_HW, engines=engines)}
    row["cpu_s"] = time.process_time() - begun_s
    return row


def _size(case: Case) -> tuple[int, int]:
    """Return a size that takes less time, where the network is not built for the one of the other benchmark."""
    windowed = "maxvit" in case.name or "tu-vit" in case.name
    bound = case.image_HW != IMAGE_HW or case.name.removeprefix("transformers/") in {"sapiens2"} & set(CONFIGS)
    return case.image_HW if windowed or bound else SMALL_HW


def _built(case: Case, variant: str) -> nn.Module:
    network = case.build()
    images_13HW = case.images_13HW()
    make_lively(network, images_13HW)
    if variant == "dense":
        return network
    coupling = analyse(network, (images_13HW,))
    return pruned(network, make_plan(coupling, {group.name: half_of(group.width) for group in coupling.free}))


Step = Callable[[], Row]


def _steps(segmenter: Segmenter, size_HW: tuple[int, int], *, engines: bool) -> Iterator[tuple[str, Step]]:
    """Yield what is tried, in order: the later ones read the files of the first."""
    folder = Path(tempfile.mkdtemp(prefix="export_coverage_"))
    with staged(folder / "fixed") as stage:
        job = _job(stage, segmenter, size_HW)
        full = stage.folder / "model.onnx"
        yield "fp32", lambda: _fp32(job, full)
        if full.exists():
            yield "fp16", lambda: _fp16(job)
            yield "int8", lambda: _int8(job)
            for precision in ("fp32", "fp16", "int8") if engines else ():
                source = full if precision == "fp32" else full.with_name(f"model.{precision}.onnx")
                if source.exists():
                    yield f"engine {precision}", lambda source=source: _engine(job, source)
    with staged(folder / "open") as stage:
        job = _job(stage, segmenter, size_HW, dynamic=True)
        yield "fp32 open", lambda: _fp32(job, stage.folder / "model.onnx")


def _tried(step: Step) -> Row:
    begun_s = time.process_time()
    try:
        found = step()
    except Exception as error:  # a refusal is a result
        found = {"passed": False, "error": _text(error)}
    return {**found, "cpu_s": time.process_time() - begun_s}


def _job(stage: Stage, segmenter: Segmenter, size_HW: tuple[int, int], *, dynamic: bool = False) -> Job:
    height, width = size_HW
    generator = np.random.default_rng(0)
    # Coarse pictures, so that labels have regions.
    coarse = generator.integers(0, 256, (12, -(-height // 16), -(-width // 16), 3), dtype=np.uint8)
    pictures = list(coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width])
    contract = Preprocessing(height, width)
    prepared = [torch.from_numpy(contract.prepare(picture)) for picture in pictures]
    with torch.no_grad():
        labels = [segmenter(image_13HW).argmax(1)[0].to(torch.uint8).numpy() for image_13HW in prepared[8:]]
    request = ExportRequest(
        segmenter,
        height,
        width,
        contract,
        [f"class {index}" for index in range(segmenter.num_classes)],
        (),
        dynamic=dynamic,
        calibration=prepared[:8],
        judged=list(zip(pictures[8:], labels, strict=True)),
        calibration_method="minmax",
        max_drop=1,
    )
    return Job(stage, request, contract, lambda _: None)


def _fp32(job: Job, path: Path) -> Row:
    request = job.request
    size = {"height": request.height, "width": request.width}
    stride = int(getattr(request.segmenter, "stride", 1))
    report = export_onnx(
        request.segmenter,
        path,
        height=request.height,
        width=request.width,
        dynamic=request.dynamic,
        batch=1,
        stride=stride,
    )
    shapes = parity_shapes(**size, batch=1, dynamic=request.dynamic, stride=report.stride)
    if request.dynamic:  # a fifth: one more that is off the stride, of two images
        shapes = (*shapes, (2, request.height + 1, request.width - 3))
    return _compared(parity(at_any_size(request.segmenter, report.stride), path, shapes=shapes))


def _compared(report: ParityReport) -> Row:
    decided = min(max(row.label_agreement, row.decided_agreement) for row in report.rows)
    passed = report.max_rel <= MAX_ERROR and decided >= MIN_LABELS
    return {"passed": passed, "error_relative": report.max_rel, "labels": report.label_agreement, "decided": decided}


def _fp16(job: Job) -> Row:
    written = write_half(dataclasses.replace(job, request=dataclasses.replace(job.request, judged=())), FP16)
    share = written.parity.macs.get("fp16", 0.0)
    return {**_compared(written.parity), "passed": True, "share": share}


def _int8(job: Job) -> Row:
    report = write_int8(job).report
    labels, share = report.judged.agreement, report.macs.get("int8", 0.0)
    return {
        "passed": labels >= MIN_INT8_LABELS,
        "labels": labels,
        "share": share,
        "layers": len(report.layers.quantised),
    }


def _engine(job: Job, source: Path) -> Row:
    options = EngineOptions(package="tensorrt_rtx", targets=("SM86",))
    report = build_engine(source, source.with_suffix(".plan"), profile=engine_profile(job.request), options=options)
    return {"passed": True, "precision": report.precision, "bytes": report.plan_bytes}


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


if __name__ == "__main__":
    main()
