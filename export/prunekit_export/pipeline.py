"""The export of one network into one folder: ONNX, contract, classes, parity and, if asked, fp16, int8, an engine."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from prunekit.run import write_atomically
from prunekit_export.engine import build_engine, choose_package
from prunekit_export.errors import EngineError, ExportError
from prunekit_export.graph import INPUT, PICTURES, ExportReport, PicturePass, export_onnx, save_onnx, set_metadata_
from prunekit_export.job import Job, Written
from prunekit_export.lowering import WrittenInt8, write_half, write_int8
from prunekit_export.parity import PictureParity, picture_parity
from prunekit_export.precision import HALVES
from prunekit_export.request import ExportRequest, ExportSummary
from prunekit_export.sizing import (
    check_profile,
    contract_at,
    engine_profile,
    picture_profile,
    picture_sides,
    tried_sides,
)
from prunekit_export.staging import TRTEXEC
from prunekit_export.trtexec import trtexec_line, trtexec_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_export.engine import EngineReport
    from prunekit_export.staging import Stage


def export_into(stage: Stage, request: ExportRequest, on_stage: Callable[[str], None] | None = None) -> ExportSummary:
    """Write model.onnx, preprocessing.json, classes.json and parity.json; other precisions and engines where asked.

    All of them take their names when all are proved; an export that fails or is killed leaves none. Where the engine
    alone fails, the other files are kept.

    Args:
        stage: where the files lie until they are proved.
        request: the folded network, images_B3HW -> logits_BKHW, and what to write; one with an attribute `stride` takes
            multiples of it. The contract is written with the request's height and width.
        on_stage: told what is being done.

    Raises:
        ExportError: the network does not export, a lower precision has no calibration images or would be fp32 for the
            most part, or
            parity fails.
        EngineError: the engine cannot be built.
    """
    if request.trt:
        choose_package(request.engine.package)  # a missing package is better told before the work than after
    _check_images(request)
    job = _job(stage, request, on_stage or (lambda _: None))
    check_profile(request, job.contract)
    full = _write_fp32(job)
    half = write_half(job, HALVES[request.precision]) if request.precision in HALVES else None
    low = write_int8(job) if request.precision in ("int8", "auto") else None
    written = [each.onnx for each in (full, half, low) if each]
    labels = [_write_labels(job, each) for each in written] if request.end2end else []
    _write_json(stage.folder / "preprocessing.json", job.contract.to_json())
    _write_json(stage.folder / "classes.json", job.classes)
    _write_lines(job, [report.path.name for report in written], labels)
    _write_json(stage.folder / "parity.json", _parity_json(full, half, low, labels))
    engine = _write_engine(job, written[-1].path, labels) if request.trt else None
    summary = _summary(job, full, half, low, labels, engine)
    stage.publish()
    return summary


def _check_images(request: ExportRequest) -> None:
    if request.precision != "fp32" and not request.calibration:
        raise ExportError(
            f"{request.precision} needs calibration images to find how large numbers become, got none. Give some, or "
            "export fp32."
        )
    if request.precision in ("int8", "auto") and not request.judged:
        raise ExportError(
            f"{request.precision} needs validation images to see what it costs, got none. Give some, or export fp16."
        )


def _job(stage: Stage, request: ExportRequest, tell: Callable[[str], None]) -> Job:
    contract = contract_at(request.contract, request.height, request.width, dynamic=request.dynamic)
    return Job(stage, request, contract, tell)


def _summary(
    job: Job,
    full: Written,
    half: Written | None,
    low: WrittenInt8 | None,
    labels: list[PictureParity],
    engine: EngineReport | None,
) -> ExportSummary:
    out_dir = job.stage.out_dir
    return ExportSummary(
        out_dir=out_dir,
        precision=job.request.precision,
        onnx=_published(full.onnx, out_dir),
        onnx_half=_published(half.onnx, out_dir) if half else None,
        parity=full.parity,
        parity_half=half.parity if half else None,
        ranges=half.ranges if half else None,
        engine=engine,
        files=_files(out_dir, [each.onnx for each in (half, low) if each], labels, engine),
        labels=tuple(labels),
        onnx_int8=_published(low.onnx, out_dir) if low else None,
        int8=low.report if low else None,
        half_cost=half.cost if half else None,
    )


def _published(report: ExportReport, out_dir: Path) -> ExportReport:
    return dataclasses.replace(report, path=out_dir / report.path.name)


def _write_fp32(job: Job) -> Written:
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
    return Written(report, job.parity(path, report.stride, report.edges))


def _write_labels(job: Job, parts: ExportReport) -> PictureParity:
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


def _write_lines(job: Job, names: Sequence[str], labels: Sequence[PictureParity]) -> None:
    request = job.request
    images = engine_profile(request)
    lines = [trtexec_line(name, INPUT, images, request.engine) for name in names]
    if labels:
        pictures = picture_profile(request, job.contract)
        lines += [trtexec_line(each.file, PICTURES, pictures, request.engine) for each in labels]
    write_atomically(job.stage.folder / TRTEXEC, trtexec_text(lines).encode())


def _write_engine(job: Job, source: Path, labels: Sequence[PictureParity]) -> EngineReport:
    """Build the engine, from pictures to labels where such a file was written; if it fails, publish what was proved."""
    request = job.request
    profile = engine_profile(request)
    if labels:
        source, profile = source.with_name(labels[-1].file), picture_profile(request, job.contract)
    name = source.name
    precision = "int8" if request.precision == "auto" else request.precision
    plan = job.stage.folder / f"model.{precision}.plan"
    job.tell(f"building an engine from {name}")
    try:
        return build_engine(
            source,
            plan,
            profile=profile,
            options=request.engine,
            on_progress=lambda phase: job.tell(f"building an engine: {phase}"),
        )
    except EngineError as error:
        job.stage.publish()
        raise EngineError(
            f"{error} The export without the engine is complete and checked: {job.stage.out_dir / name}"
        ) from error


def _parity_json(
    full: Written, half: Written | None, low: WrittenInt8 | None, labels: list[PictureParity]
) -> dict[str, Any]:
    return {
        "exporter": full.onnx.route,
        "fixed": list(full.onnx.fixed),
        "files": [written.parity.to_json() for written in (full, half) if written],
        "labels": [each.to_json() for each in labels],
        "ranges": half.ranges.to_json() if half and half.ranges else None,
        "half": half.cost.to_json() if half and half.cost else None,
        "int8": low.report.to_json() if low else None,
    }


def _files(
    out_dir: Path, lower: list[ExportReport], labels: list[PictureParity], engine: EngineReport | None
) -> tuple[Path, ...]:
    names = ["model.onnx", "preprocessing.json", "classes.json", "parity.json", TRTEXEC]
    names += [report.path.name for report in lower]
    names += [each.file for each in labels]
    names += [engine.plan, f"{engine.plan}.json"] if engine else []
    return tuple(out_dir / name for name in names)


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
