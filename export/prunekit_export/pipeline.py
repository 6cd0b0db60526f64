"""The export of one network: ONNX, contract, classes, parity and, if asked, fp16 and an engine, in one folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit.run import write_atomically
from prunekit_export.engine import build_engine, choose_package
from prunekit_export.errors import EngineError, ExportError
from prunekit_export.graph import ExportReport, PicturePass, export_onnx, save_onnx, set_metadata_
from prunekit_export.padding import at_any_size
from prunekit_export.parity import ParityReport, PictureParity, parity, parity_shapes, picture_parity
from prunekit_export.precision import Fp16Pass, RangeReport, scan_ranges
from prunekit_export.request import ExportRequest, ExportSummary
from prunekit_export.sizing import (
    calibration_batches,
    contract_at,
    engine_profile,
    picture_profile,
    picture_sides,
    prepared_pictures,
    tried_sides,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_export.engine import EngineReport
    from prunekit_export.parity import Shape
    from prunekit_export.sizing import FloatArray
    from prunekit_export.staging import Stage
    from prunekit_runtime.preprocessing import Preprocessing

# An fp16 file that computes less than this in fp16 is none.
MIN_HALF_SHARE = 0.5


def export_into(stage: Stage, request: ExportRequest, on_stage: Callable[[str], None] | None = None) -> ExportSummary:
    """Write model.onnx, preprocessing.json, classes.json and parity.json; model.fp16.onnx and engines where asked.

    All of them take their names when all are proved; an export that fails or is killed leaves none. Where the engine
    alone fails, the other files are kept.

    Args:
        stage: where the files lie until they are proved.
        request: the folded network, images_B3HW -> logits_BKHW, and what to write; one with an attribute `stride` takes
            multiples of it. The contract is written with the request's height and width.
        on_stage: told what is being done.

    Raises:
        ExportError: the network does not export, fp16 has no calibration images or would be fp32 for the most part, or
            parity fails.
        EngineError: the engine cannot be built.
    """
    if request.trt:
        choose_package("auto")  # a missing package is better told before the work than after
    if request.precision == "fp16" and not request.calibration:
        raise ExportError("fp16 needs calibration images to find what overflows, got none. Give some, or export fp32.")
    job = _job(stage, request, on_stage or (lambda _: None))
    full = _write_fp32(job)
    half = _write_fp16(job) if request.precision == "fp16" else None
    written = [each for each in (full, half) if each]
    labels = [_write_labels(job, each.onnx) for each in written] if request.end2end else []
    _write_json(stage.folder / "preprocessing.json", job.contract.to_json())
    _write_json(stage.folder / "classes.json", job.classes)
    _write_json(stage.folder / "parity.json", _parity_json(full, half, labels))
    engine = _write_engine(job, (half or full).onnx.path, labels) if request.trt else None
    summary = _summary(job, full, half, labels, engine)
    stage.publish()
    return summary


@dataclass(frozen=True)
class _Job:
    """What the steps of one export share."""

    stage: Stage
    request: ExportRequest
    contract: Preprocessing
    tell: Callable[[str], None]

    @property
    def classes(self) -> dict[str, Any]:
        palette = [list(colour) for colour in self.request.palette]
        return {"names": list(self.request.class_names), "palette": palette}

    @property
    def metadata(self) -> dict[str, str]:
        contract, classes = _compact(self.contract.to_json()), _compact(self.classes)
        return {"prunekit.preprocessing": contract, "prunekit.classes": classes}

    def parity(self, path: Path, stride: int, edges: Sequence[tuple[int, int]] = ()) -> ParityReport:
        request = self.request
        shapes: tuple[Shape, ...] = parity_shapes(
            height=request.height, width=request.width, batch=request.batch, dynamic=request.dynamic, stride=stride
        )
        self.tell(f"checking {path.name} against the network")
        return parity(
            at_any_size(request.segmenter, stride),
            path,
            shapes=shapes,
            edges=[(2, *size) for size in edges],
            real_images=prepared_pictures(self.contract, request.pictures),
        )


@dataclass(frozen=True)
class _Written:
    """An ONNX file and what was found out about it."""

    onnx: ExportReport
    parity: ParityReport
    ranges: RangeReport | None = None


def _job(stage: Stage, request: ExportRequest, tell: Callable[[str], None]) -> _Job:
    contract = contract_at(request.contract, request.height, request.width, dynamic=request.dynamic)
    return _Job(stage, request, contract, tell)


def _summary(
    job: _Job, full: _Written, half: _Written | None, labels: list[PictureParity], engine: EngineReport | None
) -> ExportSummary:
    out_dir = job.stage.out_dir
    return ExportSummary(
        out_dir=out_dir,
        precision=job.request.precision,
        onnx=_published(full.onnx, out_dir),
        onnx_fp16=_published(half.onnx, out_dir) if half else None,
        parity=full.parity,
        parity_fp16=half.parity if half else None,
        ranges=half.ranges if half else None,
        engine=engine,
        files=_files(out_dir, half, labels, engine),
        labels=tuple(labels),
    )


def _published(report: ExportReport, out_dir: Path) -> ExportReport:
    return dataclasses.replace(report, path=out_dir / report.path.name)


def _write_fp32(job: _Job) -> _Written:
    request = job.request
    path = job.stage.folder / "model.onnx"
    job.tell("writing model.onnx")
    report = export_onnx(
        request.segmenter,
        path,
        height=request.height,
        width=request.width,
        dynamic=request.dynamic,
        batch=request.batch,
        stride=int(getattr(request.segmenter, "stride", 1)),
        metadata=job.metadata,
    )
    return _Written(report, job.parity(path, report.stride, report.edges))


def _write_fp16(job: _Job) -> _Written:
    import onnx

    job.tell("looking for what overflows in fp16")
    model = onnx.load_model(job.stage.folder / "model.onnx")
    ranges = scan_ranges(model, _batches(job))
    job.tell("writing model.fp16.onnx")
    converted = Fp16Pass(ranges.keep_fp32)(model).model
    set_metadata_(converted, {"prunekit.keep_fp32": _compact(sorted(ranges.keep_fp32))})
    path = job.stage.folder / "model.fp16.onnx"
    stride = int(getattr(job.request.segmenter, "stride", 1)) if job.request.dynamic else 1
    report = save_onnx(converted, path, stride=stride)
    written = _Written(report, job.parity(path, stride), ranges)
    _check_half(written.parity, ranges)
    return written


def _write_labels(job: _Job, parts: ExportReport) -> PictureParity:
    """Write the file from pictures to labels beside the file of logits that it is made from, and compare them."""
    import onnx

    request, source = job.request, parts.path
    path = source.with_suffix(".labels.onnx")
    job.tell(f"writing {path.name}")
    sides = picture_sides(request, job.contract)
    wrapped = PicturePass(job.contract, sides, request.confidence, parts.stride)(onnx.load_model(source)).model
    set_metadata_(wrapped, {"prunekit.graph": "labels"})
    save_onnx(wrapped, path)
    job.tell(f"checking {path.name} against {source.name}")
    return picture_parity(source, path, job.contract, request.pictures, tried_sides(request, job.contract))


def _batches(job: _Job) -> list[FloatArray]:
    request = job.request
    count = 1 if request.dynamic else request.batch
    return calibration_batches(request.calibration, request.height, request.width, count=count)


def _check_half(report: ParityReport, ranges: RangeReport) -> None:
    share = report.macs.get("fp16", 0.0)
    if report.macs and share < MIN_HALF_SHARE:
        kept = ", ".join(sorted(ranges.keep_fp32)[:5]) or "none"
        raise ExportError(
            f"{report.file} would compute {share:.0%} of its multiply-accumulates in fp16. Nodes kept in float32, as "
            f"they exceed what fp16 holds: {kept}. Export fp32."
        )


def _write_engine(job: _Job, source: Path, labels: Sequence[PictureParity]) -> EngineReport:
    """Build the engine, from pictures to labels where such a file was written; if it fails, publish what was proved."""
    request = job.request
    profile = engine_profile(request.height, request.width, batch=request.batch, dynamic=request.dynamic)
    if labels:
        source, profile = source.with_name(labels[-1].file), picture_profile(request, job.contract)
    name = source.name
    plan = job.stage.folder / f"model.{request.precision}.plan"
    job.tell(f"building an engine from {name}")
    try:
        return build_engine(
            source,
            plan,
            profile=profile,
            targets=request.targets,
            tf32=request.tf32,
            on_progress=lambda phase: job.tell(f"building an engine: {phase}"),
        )
    except EngineError as error:
        job.stage.publish()
        raise EngineError(
            f"{error} The export without the engine is complete and checked: {job.stage.out_dir / name}"
        ) from error


def _parity_json(full: _Written, half: _Written | None, labels: list[PictureParity]) -> dict[str, Any]:
    return {
        "files": [written.parity.to_json() for written in (full, half) if written],
        "labels": [each.to_json() for each in labels],
        "ranges": half.ranges.to_json() if half and half.ranges else None,
    }


def _files(
    out_dir: Path, half: _Written | None, labels: list[PictureParity], engine: EngineReport | None
) -> tuple[Path, ...]:
    names = ["model.onnx", "preprocessing.json", "classes.json", "parity.json"]
    names += [half.onnx.path.name] if half else []
    names += [each.file for each in labels]
    names += [engine.plan, f"{engine.plan}.json"] if engine else []
    return tuple(out_dir / name for name in names)


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
