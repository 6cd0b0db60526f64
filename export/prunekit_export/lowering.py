"""Files of a lower precision, made from the float32 file of the same export and compared with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunekit_export.errors import ExportError
from prunekit_export.graph import ExportReport, save_onnx, set_metadata_
from prunekit_export.job import Written, compact
from prunekit_export.precision import (
    FP16,
    Half,
    HalfPass,
    NewerOpsetPass,
    RoundingError,
    macs_by_type,
    rounded,
    scan_ranges,
    shares,
)
from prunekit_export.quantising import (
    Cost,
    Found,
    Judge,
    QuantisedReport,
    calibrated,
    fewest_kept,
    layers_of,
    quantised,
)
from prunekit_export.sizing import calibration_batches
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from prunekit_export.job import Job
    from prunekit_export.parity import ParityReport
    from prunekit_export.precision import RangeReport
    from prunekit_export.quantising import Ranges
    from prunekit_export.sizing import FloatArray

# A file of 16 bits that computes less than this in them is none.
MIN_HALF_SHARE = 0.5
# A file that is judged and not published.
TRIAL = "trial.onnx"


def write_half(job: Job, half: Half) -> Written:
    """Write model.fp16.onnx or model.bf16.onnx.

    Raises:
        ExportError: it would be float32 for the most part, differs from the network, or loses too much mIoU.
    """
    model, ranges = _scanned(job, half)
    name = f"model.{half.name}.onnx"
    job.tell(f"writing {name}")
    model = model if half == FP16 else NewerOpsetPass()(model).model
    report = _save(job, HalfPass(ranges.keep_fp32, half)(model).model, ranges, name)
    written = Written(report, job.parity(report.path, report.stride), ranges)
    _check_half(written.parity, ranges, half)
    return dataclasses.replace(written, cost=_half_cost(job, report.path)) if job.request.judged else written


def _half_cost(job: Job, path: Path) -> Cost:
    """Return what 16 bits cost, each result rounded as the file says."""
    import onnx

    request, trial = job.request, job.stage.folder / TRIAL
    job.tell(f"comparing the mIoU of {path.name} with the float32 file's")
    judge = Judge(path.with_name("model.onnx"), job.contract, request.judged, len(request.class_names))
    try:
        save_onnx(rounded(onnx.load_model(path)), trial)
    except RoundingError:  # subgraphs: ONNX Runtime rounds where it has operators for fp16
        trial = path
    cost = judge.cost(trial, path.name, request.max_drop)
    (job.stage.folder / TRIAL).unlink(missing_ok=True)
    cost.check(f"Keep nodes in float32 ({spelled('--keep-fp32', 'keep_fp32')}), export fp32")
    return cost


@dataclass(frozen=True)
class WrittenInt8:
    """An int8 file and what was found out about it."""

    onnx: ExportReport
    report: QuantisedReport


def write_int8(job: Job) -> WrittenInt8:
    """Write model.int8.onnx: int8 where layers are worth it, fp16 elsewhere.

    Raises:
        ExportError: no layer is worth it, or the labels or the mIoU are too far from the float32 file's.
    """
    request, source = job.request, job.stage.folder / "model.onnx"
    model, scanned = _scanned(job)
    job.tell("calibrating int8")
    maker = _Maker(job, model, scanned, calibrated(source, _batches(job), request.calibration_method))
    layers = layers_of(model).without(dict.fromkeys(scanned.keep_fp32, "it stays in float32"))
    if not layers.quantised:
        reasons = "; ".join(f"{layer.name}: {layer.reason}" for layer in layers.kept[:5])
        raise ExportError(f"No layer of this network is worth int8. {reasons}. Export fp16.")
    judge = Judge(source, job.contract, request.judged, len(request.class_names))
    searched = request.precision == "auto"
    if searched:
        found = fewest_kept(layers, judge, maker.trial, request.max_drop)
    else:
        found = Found(layers, judge(maker.trial(layers.quantised)), 1)
    job.tell("writing model.int8.onnx")
    report = maker.write(found.layers.quantised)
    quantised_report = QuantisedReport(
        file=report.path.name,
        calibration=request.calibration_method,
        calibration_images=maker.calibration.images,
        layers=found.layers,
        macs=_shares(report.path, job),
        judged=found.judged,
        reference=judge.reference,
        max_drop=request.max_drop,
        tried=found.tried,
        searched=searched,
    )
    quantised_report.check()
    return WrittenInt8(report, quantised_report)


@dataclass(frozen=True)
class _Maker:
    """Makes files from one float32 model and one calibration."""

    job: Job
    model: onnx.ModelProto
    scanned: RangeReport
    calibration: Ranges

    def trial(self, names: Sequence[str]) -> Path:
        """Write a file to be compared, whose named layers are int8."""
        path = self.job.stage.folder / TRIAL
        save_onnx(self._made(names), path, stride=1)
        return path

    def write(self, names: Sequence[str]) -> ExportReport:
        """Write the file itself."""
        (self.job.stage.folder / TRIAL).unlink(missing_ok=True)
        return _save(self.job, self._made(names), self.scanned, "model.int8.onnx")

    def _made(self, names: Sequence[str]) -> onnx.ModelProto:
        return HalfPass(self.scanned.keep_fp32)(quantised(self.model, self.calibration, names)).model


def _scanned(job: Job, half: Half = FP16) -> tuple[onnx.ModelProto, RangeReport]:
    import onnx

    job.tell(f"looking for what overflows in {half.name}")
    model = onnx.load_model(job.stage.folder / "model.onnx")
    # bf16 reaches as far as float32, so that nothing is kept; the scan still refuses what is not finite.
    ranges = scan_ranges(model, _batches(job), half)
    return model, dataclasses.replace(ranges, keep_fp32=ranges.keep_fp32 | set(job.request.keep_fp32))


def _save(job: Job, model: onnx.ModelProto, ranges: RangeReport, name: str) -> ExportReport:
    set_metadata_(model, {"prunekit.keep_fp32": compact(sorted(ranges.keep_fp32))})
    stride = int(getattr(job.request.segmenter, "stride", 1)) if job.request.dynamic else 1
    return save_onnx(model, job.stage.folder / name, stride=stride)


def _shares(path: Path, job: Job) -> dict[str, float]:
    import onnx

    request = job.request
    count = 1 if request.dynamic else request.batch
    return shares(macs_by_type(onnx.load_model(path), (count, 3, request.height, request.width)))


def _batches(job: Job) -> list[FloatArray]:
    request = job.request
    count = 1 if request.dynamic else request.batch
    return calibration_batches(request.calibration, request.height, request.width, count=count)


def _check_half(report: ParityReport, ranges: RangeReport, half: Half) -> None:
    share = report.macs.get(half.name, 0.0)
    if report.macs and share < MIN_HALF_SHARE:
        kept = ", ".join(sorted(ranges.keep_fp32)[:5]) or "none"
        raise ExportError(
            f"{report.file} would compute {share:.0%} of its multiply-accumulates in {half.name}. Nodes kept in "
            f"float32, as they exceed what {half.name} holds or were named: {kept}. Export fp32."
        )
