"""The export of one network: ONNX, contract, classes, parity and, if asked, fp16 and an engine, in one folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prunekit.run import write_atomically
from prunekit_export.engine import DEFAULT_TARGETS, EngineReport, Profile, build_engine, choose_package
from prunekit_export.errors import ExportError
from prunekit_export.onnx_export import ExportReport, export_onnx, save_onnx, set_metadata_
from prunekit_export.parity import ParityReport, parity, parity_shapes
from prunekit_export.passes.fp16 import Fp16Pass
from prunekit_export.range_scan import RangeReport, scan_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import torch

    from prunekit_runtime.preprocessing import Preprocessing

    FloatArray = npt.NDArray[np.float32]

Precision = Literal["fp32", "fp16"]

# A dynamic engine takes up to twice the exported height and width, and this many images.
MAX_DYNAMIC_BATCH = 4


@dataclass(frozen=True)
class ExportSummary:
    """The files written, and what was measured on the way; what was not asked for is None."""

    out_dir: Path
    precision: Precision
    onnx: ExportReport
    onnx_fp16: ExportReport | None
    parity: ParityReport
    parity_fp16: ParityReport | None
    ranges: RangeReport | None
    engine: EngineReport | None
    files: tuple[Path, ...]

    @property
    def onnx_path(self) -> Path:
        """The float32 file, which runs everywhere; an engine of fp16 is built from another."""
        return self.onnx.path

    @property
    def onnx_bytes(self) -> int:
        """Size of the float32 file."""
        return self.onnx.onnx_bytes

    @property
    def engine_bytes(self) -> int | None:
        """Size of the engine."""
        return self.engine.plan_bytes if self.engine else None


@dataclass(frozen=True)
class _Job:
    """What the steps of one export share."""

    segmenter: torch.nn.Module
    out_dir: Path
    height: int
    width: int
    batch: int
    dynamic: bool
    stride: int
    metadata: dict[str, str]
    tell: Callable[[str], None]

    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        return parity_shapes(
            height=self.height, width=self.width, batch=self.batch, dynamic=self.dynamic, stride=self.stride
        )


def export_run(
    segmenter: torch.nn.Module,
    *,
    out_dir: Path,
    height: int,
    width: int,
    contract: Preprocessing,
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]],
    batch: int = 1,
    dynamic: bool = False,
    precision: Precision = "fp32",
    trt: bool = False,
    calibration: Sequence[torch.Tensor] = (),
    targets: Sequence[str] = DEFAULT_TARGETS,
    on_stage: Callable[[str], None] | None = None,
) -> ExportSummary:
    """Write model.onnx, preprocessing.json, classes.json and parity.json; model.fp16.onnx and engines where asked.

    Args:
        segmenter: the folded network, images_B3HW -> logits_BKHW.
        out_dir: made if it is missing.
        height: of the input [px]; with `dynamic` the size the engine is tuned for.
        width: of the input [px].
        contract: preprocessing; written with height and width if these differ from its own.
        class_names: K names.
        palette: K colours, RGB.
        batch: images at once when not `dynamic`.
        dynamic: leave batch, height and width open.
        precision: "fp16" adds model.fp16.onnx, and the engine is built from that.
        trt: build an engine.
        calibration: prepared images, float32 (N, 3, h, w) each; fp16 needs some.
        targets: what TensorRT-RTX compiles for.
        on_stage: told what is being done.

    Raises:
        ExportError: the network does not export, fp16 has no calibration images, or parity fails.
        EngineError: the engine cannot be built.
    """
    tell = on_stage or (lambda _: None)
    if trt:
        choose_package("auto")  # a missing package is better told before the work than after
    if precision == "fp16" and not calibration:
        raise ExportError("fp16 needs calibration images to find what overflows, got none. Give some, or export fp32.")
    stride = int(getattr(segmenter, "stride", 1)) if dynamic else 1
    contract = _contract_at(contract, height, width, dynamic=dynamic, stride=stride)
    classes = {"names": list(class_names), "palette": [list(colour) for colour in palette]}
    metadata = {"prunekit.preprocessing": _compact(contract.to_json()), "prunekit.classes": _compact(classes)}
    job = _Job(segmenter, out_dir, height, width, batch, dynamic, stride, metadata, tell)
    full, full_parity = _write_fp32(job)
    half = _write_fp16(job, calibration) if precision == "fp16" else None
    engine = _write_engine(job, half.onnx if half else full, precision, targets) if trt else None
    _write_json(out_dir / "preprocessing.json", contract.to_json())
    _write_json(out_dir / "classes.json", classes)
    _write_json(out_dir / "parity.json", _parity_json(full_parity, half))
    return _summary(out_dir, precision, full, full_parity, half, engine)


@dataclass(frozen=True)
class _Half:
    """What the fp16 step gives."""

    onnx: ExportReport
    parity: ParityReport
    ranges: RangeReport


def _summary(
    out_dir: Path,
    precision: Precision,
    full: ExportReport,
    full_parity: ParityReport,
    half: _Half | None,
    engine: EngineReport | None,
) -> ExportSummary:
    return ExportSummary(
        out_dir=out_dir,
        precision=precision,
        onnx=full,
        onnx_fp16=half.onnx if half else None,
        parity=full_parity,
        parity_fp16=half.parity if half else None,
        ranges=half.ranges if half else None,
        engine=engine,
        files=_files(out_dir, half, engine),
    )


def _write_fp32(job: _Job) -> tuple[ExportReport, ParityReport]:
    path = job.out_dir / "model.onnx"
    job.tell("writing model.onnx")
    report = export_onnx(
        job.segmenter,
        path,
        height=job.height,
        width=job.width,
        dynamic=job.dynamic,
        batch=job.batch,
        stride=job.stride,
        metadata=job.metadata,
    )
    job.tell("checking model.onnx against the network")
    return report, parity(job.segmenter, path, shapes=job.shapes())


def _write_fp16(job: _Job, calibration: Sequence[torch.Tensor]) -> _Half:
    import onnx

    job.tell("looking for what overflows in fp16")
    model = onnx.load_model(job.out_dir / "model.onnx")
    ranges = scan_ranges(model, _batches(calibration, job))
    job.tell("writing model.fp16.onnx")
    converted = Fp16Pass(ranges.keep_fp32)(model).model
    set_metadata_(converted, {"prunekit.keep_fp32": _compact(sorted(ranges.keep_fp32))})
    path = job.out_dir / "model.fp16.onnx"
    report = save_onnx(converted, path, stride=job.stride)
    job.tell("checking model.fp16.onnx against the network")
    return _Half(report, parity(job.segmenter, path, shapes=job.shapes()), ranges)


def _write_engine(job: _Job, source: ExportReport, precision: Precision, targets: Sequence[str]) -> EngineReport:
    job.tell(f"building an engine from {source.path.name}")
    return build_engine(
        source.path,
        job.out_dir / f"model.{precision}.plan",
        profile=_profile(job),
        targets=targets,
        on_progress=lambda phase: job.tell(f"building an engine: {phase}"),
    )


def _profile(job: _Job) -> Profile:
    if not job.dynamic:
        size = (job.batch, 3, job.height, job.width)
        return Profile(size, size, size)
    smallest = tuple(max(job.stride, side // 2 // job.stride * job.stride) for side in (job.height, job.width))
    return Profile(
        minimum=(1, 3, smallest[0], smallest[1]),
        optimum=(1, 3, job.height, job.width),
        maximum=(MAX_DYNAMIC_BATCH, 3, 2 * job.height, 2 * job.width),
    )


def _batches(calibration: Sequence[torch.Tensor], job: _Job) -> list[FloatArray]:
    """Return the calibration images at the exported size, in batches of the exported size."""
    import torch
    import torch.nn.functional as F

    images_N3hw = [image[None] for batch in calibration for image in batch.detach().cpu().float()]
    # Ranges hardly depend on the size; a fixed-size file takes no other.
    sized = [F.interpolate(image, (job.height, job.width), mode="bilinear") for image in images_N3hw]
    count = 1 if job.dynamic else job.batch
    sized += sized[:1] * (-len(sized) % count)
    return [torch.cat(sized[start : start + count]).numpy() for start in range(0, len(sized), count)]


def _contract_at(contract: Preprocessing, height: int, width: int, *, dynamic: bool, stride: int) -> Preprocessing:
    """Return the contract that prepares images as the file takes them.

    Raises:
        ExportError: padding by the contract does not lead to a size of the file.
    """
    if contract.pad_multiple % stride:
        raise ExportError(
            f"The contract pads images to multiples of {contract.pad_multiple}, but the network takes multiples of "
            f"{stride}. Export with a fixed size (--static)."
        )
    own = contract.network_size(contract.height, contract.width)
    if own == (height, width) or (dynamic and not contract.height):
        return contract
    sized = dataclasses.replace(contract, height=height, width=width)
    needed = sized.network_size(height, width)
    if needed != (height, width):
        raise ExportError(
            f"The contract pads images to multiples of {contract.pad_multiple}, so {height} x {width} is no input. "
            f"Use {needed[0]} x {needed[1]}."
        )
    return sized


def _parity_json(full: ParityReport, half: _Half | None) -> dict[str, Any]:
    files = [full.to_json()] + ([half.parity.to_json()] if half else [])
    return {"files": files, "ranges": half.ranges.to_json() if half else None}


def _files(out_dir: Path, half: _Half | None, engine: EngineReport | None) -> tuple[Path, ...]:
    names = ["model.onnx", "preprocessing.json", "classes.json", "parity.json"]
    names += [half.onnx.path.name] if half else []
    names += [engine.plan, f"{engine.plan}.json"] if engine else []
    return tuple(out_dir / name for name in names)


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
