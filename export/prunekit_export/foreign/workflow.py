"""`prunekit export FILE.onnx`: a file that others made becomes one that can be profiled, evaluated and built."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit.progress import told
from prunekit.run import write_atomically
from prunekit_export.engine import USUAL, EngineOptions, Profile, build_engine, choose_package
from prunekit_export.errors import EngineError, ExportError, ExportUsageError
from prunekit_export.foreign.adopting import Adopted, adopt, image_size, run_once
from prunekit_export.foreign.lowering import Lowering, lowered
from prunekit_export.foreign.opening import read_foreign
from prunekit_export.graph import INPUT, save_onnx, set_metadata_, value_dims
from prunekit_export.job import Written
from prunekit_export.lowering import WrittenInt8
from prunekit_export.parity import draw_images
from prunekit_export.staging import TRTEXEC, staged
from prunekit_export.trtexec import trtexec_line, trtexec_text
from prunekit_runtime.preprocessing import Preprocessing, resize_bilinear
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit.progress import Progress
    from prunekit_export.engine import EngineReport
    from prunekit_export.graph import ExportReport
    from prunekit_export.staging import Stage

# Converted operators sum in another order; half of what fp16 is allowed would hide a wrong one.
TOLERANCE = 1e-4
MIN_AGREEMENT = 0.9999


@dataclass(frozen=True, kw_only=True)
class FileConfig:
    """How to take a file, and how its images are prepared."""

    output: str | None = None
    """Name of the logits or the mask, where the file has several outputs."""
    height: int = 0
    """Height of the images [px]; 0 takes the size that the file fixes."""
    width: int = 0
    """Width of the images [px]."""
    mean: tuple[float, float, float] | None = None
    """None is ImageNet's, or 0 for a file that takes uint8."""
    std: tuple[float, float, float] | None = None
    """None is ImageNet's, or 1 for a file that takes uint8."""
    scale: float | None = None
    """None is 1/255, or 1 for a file that takes uint8."""
    channels: str = "rgb"
    """rgb or bgr."""
    trt: bool = False
    """Build an engine."""
    engine: EngineOptions = USUAL
    """How it is built."""
    profile: Profile | None = None
    """Sizes that it takes, where the file leaves some open; None is the one of its images."""
    lowering: Lowering | None = None
    """Another precision, in a file beside the float32 one; the engine is built from that."""

    def __post_init__(self) -> None:
        if (self.height == 0) != (self.width == 0) or min(self.height, self.width) < 0:
            raise ExportUsageError(f"Give height and width together, above 0; got {self.height} and {self.width}.")

    def contract(self, height: int, width: int, *, takes_bytes: bool) -> Preprocessing:
        """Return how images are prepared.

        Raises:
            ExportError: the file takes uint8 and so prepares them itself, and a mean, std or scale is given.
        """
        given = [name for name in ("mean", "std", "scale") if getattr(self, name) is not None]
        if takes_bytes and given:
            raise ExportUsageError(
                f"The file takes uint8 pixels and prepares them itself. Leave out {', '.join(given)}."
            )
        usual = Preprocessing(height, width)
        return Preprocessing(
            height,
            width,
            channel_order=self.channels,
            mean=(0.0, 0.0, 0.0) if takes_bytes else self.mean or usual.mean,
            std=(1.0, 1.0, 1.0) if takes_bytes else self.std or usual.std,
            scale=1.0 if takes_bytes else usual.scale if self.scale is None else self.scale,
        )


@dataclass(frozen=True)
class FileOutcome:
    """What was written, and what of the source was changed."""

    source: Path
    onnx: ExportReport
    steps: tuple[str, ...]
    max_rel: float | None
    """Largest error beside the source, as a share of its largest logit; None where the source gives labels."""
    label_agreement: float
    contract: Preprocessing
    takes_bytes: bool
    """Whether the source takes uint8 images, and so prepares them itself."""
    engine: EngineReport | None
    files: tuple[Path, ...]
    half: Written | None = None
    int8: WrittenInt8 | None = None


def export_file(
    source: Path,
    config: FileConfig,
    out_dir: Path,
    on_stage: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
) -> FileOutcome:
    """Write model.onnx with our ends, preprocessing.json, trtexec.txt and, if asked, another precision and the engine.

    Raises:
        PrunekitError: the file is none of segmentation, does not compute the same with our ends, or no engine can be
            built of it.
    """
    tell = on_stage or (lambda _: None)
    if config.trt:
        choose_package(config.engine.package)
    with staged(out_dir) as stage, told(on_progress):
        return _export(source, config, stage, tell)


def _export(source: Path, config: FileConfig, stage: Stage, tell: Callable[[str], None]) -> FileOutcome:
    tell("reading the file")
    original = read_foreign(source)
    height, width = _size(source, original, config)
    adopted = adopt(original, height=height, width=width, output=config.output)
    contract = config.contract(height, width, takes_bytes=adopted.takes_bytes)
    profile = _profile(adopted, config, height, width)  # what it does not take is told before the work
    set_metadata_(adopted.model, {"prunekit.preprocessing": json.dumps(contract.to_json(), separators=(",", ":"))})
    report = save_onnx(adopted.model, stage.folder / "model.onnx")
    tell("comparing model.onnx with the file")
    max_rel, labels = _compared(original, adopted, height, width)
    _write_json(stage.folder / "preprocessing.json", contract.to_json())
    low = lowered(stage, adopted.model, contract, config.lowering, tell) if config.lowering else None
    _write_json(stage.folder / "parity.json", _parity(source, max_rel, labels, low))
    sources = ["model.onnx", *([low.onnx.path.name] if low else [])]
    lines = [trtexec_line(name, INPUT, profile, config.engine) for name in sources]
    write_atomically(stage.folder / TRTEXEC, trtexec_text(lines).encode())
    engine = _engine(stage, sources[-1], profile, config, tell) if config.trt else None
    names = sorted(path.name for path in stage.folder.iterdir())
    stage.publish()
    return FileOutcome(
        source,
        _published(report, stage),
        adopted.steps,
        max_rel,
        labels,
        contract,
        adopted.takes_bytes,
        engine,
        tuple(stage.out_dir / name for name in names),
        half=dataclasses.replace(low, onnx=_published(low.onnx, stage)) if isinstance(low, Written) else None,
        int8=dataclasses.replace(low, onnx=_published(low.onnx, stage)) if isinstance(low, WrittenInt8) else None,
    )


def _published(report: ExportReport, stage: Stage) -> ExportReport:
    return dataclasses.replace(report, path=stage.out_dir / report.path.name)


def _parity(source: Path, max_rel: float | None, labels: float, low: Written | WrittenInt8 | None) -> dict[str, Any]:
    half, cost = (low.parity, low.cost) if isinstance(low, Written) else (None, None)
    return {
        "source": {"file": source.name, "max_rel": max_rel, "label_agreement": labels},
        "files": [half.to_json()] if half else [],
        "half": cost.to_json() if cost else None,
        "int8": low.report.to_json() if isinstance(low, WrittenInt8) else None,
    }


def _size(source: Path, model: Any, config: FileConfig) -> tuple[int, int]:
    size = (config.height, config.width) if config.height else image_size(model)
    if size is None:
        raise ExportUsageError(
            f"{source} takes images of any size. Give the one to prepare them at: "
            f"{spelled('--height and --width', 'height and width')}"
        )
    return size


def _compared(original: Any, adopted: Adopted, height: int, width: int) -> tuple[float | None, float]:
    """Return the largest relative error and the share of equal labels of the file with our ends, beside the source."""
    batch = value_dims(adopted.model.graph.input[0])[0]
    counts = (batch, batch) if isinstance(batch, int) else (1, 2)
    rows = [_row(original, adopted, (count, height, width), seed) for seed, count in enumerate(counts)]
    errors = [row[0] for row in rows if row[0] is not None]
    max_rel, labels = max(errors, default=None), min(row[1] for row in rows)
    if not all(error <= TOLERANCE for error in errors) or labels < MIN_AGREEMENT:
        shown = "" if max_rel is None else f"relative error {max_rel:.1e}, "
        raise ExportError(
            f"The file with changed ends does not compute what the file does: {shown}the same label "
            f"on {labels:.3%} of the pixels. Please report it, with the file's operators."
        )
    return max_rel, labels


def _row(original: Any, adopted: Adopted, shape: tuple[int, int, int], seed: int) -> tuple[float | None, float]:
    images_N3hw = draw_images(shape, seed)
    if adopted.takes_bytes:
        images_N3hw = np.clip(np.rint(images_N3hw * 60 + 128), 0, 255).astype(np.float32)
    given = images_N3hw.transpose(0, 2, 3, 1) if adopted.channels_last else images_N3hw
    given = np.ascontiguousarray(given.astype(np.uint8) if adopted.takes_bytes else given)
    expected = run_once(original, {adopted.image: given}, adopted.result)
    got_NKhw = run_once(adopted.model, {INPUT: images_N3hw}, None)
    if expected.dtype.kind in "iu":
        if expected.size != got_NKhw[:, 0].size:
            raise ExportError(
                f"The mask is {expected.shape} for images of {shape[1]} x {shape[2]}. Name the logits by "
                f"{spelled('--output', 'output')} if the file gives them; they are resized."
            )
        return None, float(np.mean(expected.reshape(-1) == got_NKhw.argmax(axis=1).reshape(-1)))
    if adopted.logits_last:
        expected = expected.transpose(0, 3, 1, 2)
    sized_NKhw = np.stack([resize_bilinear(each, *got_NKhw.shape[2:]) for each in expected])
    error = float(np.abs(sized_NKhw - got_NKhw).max()) / max(float(np.abs(sized_NKhw).max()), 1e-12)
    return error, float(np.mean(sized_NKhw.argmax(axis=1) == got_NKhw.argmax(axis=1)))


def _profile(adopted: Adopted, config: FileConfig, height: int, width: int) -> Profile:
    dims = value_dims(adopted.model.graph.input[0])
    if config.profile is not None:
        return _asked(config.profile, dims)
    batch, _, *sides = dims
    count = batch if isinstance(batch, int) else 1
    best = [side if isinstance(side, int) else own for side, own in zip(sides, (height, width), strict=True)]
    shape = (count, 3, best[0], best[1])
    return Profile(shape, shape, shape)


def _asked(profile: Profile, dims: Sequence[int | str | None]) -> Profile:
    for axis, (dim, *sizes) in enumerate(zip(dims, profile.minimum, profile.optimum, profile.maximum, strict=True)):
        fits = sizes == [dim] * 3 if isinstance(dim, int) else 1 <= sizes[0] <= sizes[1] <= sizes[2]
        if not fits:
            rule = f"{dim} three times" if isinstance(dim, int) else "min <= opt <= max"
            raise ExportUsageError(
                f"Axis {axis} of {spelled('--min, --opt and --max', 'profile')} is {', '.join(map(str, sizes))}; "
                f"the file asks for {rule}."
            )
    return profile


def _engine(
    stage: Stage, source: str, profile: Profile, config: FileConfig, tell: Callable[[str], None]
) -> EngineReport:
    tell(f"building an engine from {source}")
    # model.onnx is fp32, model.fp16.onnx says it.
    precision = source.split(".")[1] if source.count(".") > 1 else "fp32"
    plan = stage.folder / f"model.{precision}.plan"
    try:
        return build_engine(stage.folder / source, plan, profile=profile, options=config.engine)
    except EngineError as error:
        stage.publish()
        raise EngineError(f"{error} The export without the engine is complete: {stage.out_dir}") from error


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
