"""`prunekit export` without the command line: a run in, the files a device needs out.

B images, K classes, H W the network's size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from prunekit_export.engine import USUAL, EngineOptions
from prunekit_export.errors import ExportUsageError
from prunekit_export.quantising import Calibration
from prunekit_export.samples import HALF_JUDGED_PICTURES, INT8_IMAGES, USUAL_IMAGES, Samples, samples_of_run
from prunekit_runtime.near import did_you_mean
from prunekit_runtime.preprocessing import MAX_SIDE
from prunekit_runtime.spelling import option, spelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor
    from torch.nn import Module

    from prunekit.folding.fold import FoldReport
    from prunekit.models.segmenter import Segmenter
    from prunekit.progress import Progress
    from prunekit.run import RunDirectory
    from prunekit_export.engine import Profile
    from prunekit_export.quantising import LabelledPicture
    from prunekit_export.request import ExportSummary, PictureSize
    from prunekit_export.staging import Stage
    from prunekit_runtime.preprocessing import Preprocessing

Fold = Literal["exact", "static", "none"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "auto"]
ENGINE_FLAGS = {
    "package": "--package",
    "targets": "--target",
    "tf32": "--tf32",
    "workspace_mib": "--workspace",
    "optimization_level": "--optimization-level",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "hardware_compatible": "--hardware-compatible",
    "refit": "--refit",
}
"""Options of the command by the name in `EngineOptions`."""


_NO_FP8 = (
    "prunekit writes no fp8. NVIDIA's ModelOpt does, in an environment of its own: "
    "pip install 'nvidia-modelopt[onnx]'; "
    "python -m modelopt.onnx.quantization --onnx_path model.onnx --quantize_mode fp8 --output_path model.fp8.onnx. "
    "The engine needs a GPU of the Ada generation or later."
)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to write."""

    precision: Precision = "fp32"
    """Arithmetic of the engine and of a second ONNX file; auto is int8 with the layers in fp16 that the mIoU needs."""
    fold: Fold = "exact"
    """What becomes of batch norms and the CCS head: the same numbers, mean-scene centres, or left as trained."""
    trt: bool = False
    """Build an engine."""
    engine: EngineOptions = USUAL
    """How it is built."""
    profile: Profile | None = None
    """Sizes that it takes, where the file leaves them open; None is from half to twice the input's."""
    height: int = 0
    """Height of the input [px]; 0 takes the size the run was trained at."""
    width: int = 0
    """Width of the input [px]; 0 takes the size the run was trained at."""
    batch: int = 1
    """Images at once, when not `dynamic`."""
    dynamic: bool = False
    """Leave batch, height and width open."""
    end2end: bool = False
    """Also write files from uint8 pictures to labels, all else inside; an engine is built from such a file."""
    picture_size: PictureSize = None
    """Of the pictures that such a file takes."""
    confidence: bool = False
    """Let such a file also give the softmax share of the winning class."""
    images: int | None = None
    """Training images that calibrate fp16 or int8 and give the mean scene; None is 64 for int8 and auto, else 16."""
    keep_fp32: tuple[str, ...] = ()
    """Names of nodes that stay in float32 in a file of another precision, besides those that would overflow."""
    calibration: Calibration = "entropy"
    """How int8 ranges are found."""
    max_miou_drop: float = 0.5
    """Points of mIoU that fp16, bf16 or int8 may cost."""

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        self._check_pictures()

    def _check_words(self) -> None:
        if cast("str", self.precision) == "fp8":
            raise ExportUsageError(_NO_FP8)
        named = (
            ("precision", self.precision, Precision),
            ("fold", self.fold, Fold),
            ("calibration", self.calibration, Calibration),
        )
        for name, value, choices in named:
            if value not in get_args(choices):
                known = get_args(choices)
                raise ExportUsageError(
                    f"{spelled(f'--{name}', name)} takes {', '.join(known)}; got {value!r}.{did_you_mean(value, known)}"
                )
        if self.keep_fp32 and self.precision == "fp32":
            raise ExportUsageError(
                f"{spelled('--keep-fp32', 'keep_fp32')} is about a file of another precision, and float32 is asked "
                f"for. Add {spelled('--precision fp16', 'precision=fp16')}, or leave it out."
            )
        self._check_engine()

    def _check_engine(self) -> None:
        given = [name for name in ENGINE_FLAGS if getattr(self.engine, name) != getattr(USUAL, name)]
        if given and not self.trt:
            said = ", ".join(spelled(ENGINE_FLAGS[name], name) for name in given)
            raise ExportUsageError(
                f"{said} is about an engine, and none is asked for. "
                f"Add {spelled('--trt', 'trt=True')}, or leave it out."
            )

    def _check_numbers(self) -> None:
        if (self.height == 0) != (self.width == 0) or min(self.height, self.width) < 0:
            raise ExportUsageError(f"Give height and width together, above 0; got {self.height} and {self.width}.")
        if self.batch < 1 or (self.images is not None and self.images < 1):
            raise ExportUsageError(f"batch and images must be at least 1; got {self.batch} and {self.images}.")
        if not 0 <= self.max_miou_drop <= 100:
            raise ExportUsageError(
                f"{spelled('--max-miou-drop', 'max_miou_drop')} takes 0 to 100 points; got {self.max_miou_drop:g}."
            )
        if self.dynamic and self.batch != 1:
            raise ExportUsageError(
                f"{spelled('--dynamic', 'dynamic')} leaves the batch open, got also {option('batch', self.batch)}. "
                "Leave one of them out."
            )

    def _check_pictures(self) -> None:
        if not self.end2end and (self.confidence or self.picture_size is not None):
            raise ExportUsageError(
                f"{spelled('--picture-size and --confidence', 'picture_size and confidence')} are about a file from "
                f"pictures to labels. Add {spelled('--end2end', 'end2end=True')}, or leave them out."
            )
        if isinstance(self.picture_size, tuple) and not all(1 <= side <= MAX_SIDE for side in self.picture_size):
            raise ExportUsageError(
                f"A picture has sides of 1 to {MAX_SIDE} px; got {self.picture_size[0]} x {self.picture_size[1]}."
            )


def engine_of(options: EngineOptions | None, *, tf32: bool) -> EngineOptions:
    """Return the options of an engine, with TF32 where either says so."""
    usual = options or USUAL
    return dataclasses.replace(usual, tf32=True) if tf32 else usual


@dataclass(frozen=True)
class ExportOutcome:
    """What was folded and what was written."""

    source: Path
    folded: FoldReport | None
    macs: int
    """Of the network that was written, for one image of the exported size."""
    params: int
    summary: ExportSummary


def export_model(
    source: RunDirectory,
    config: ExportConfig,
    out_dir: Path,
    *,
    root: str | None = None,
    trust_code: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
    on_ready: Callable[[], None] | None = None,
) -> ExportOutcome:
    """Fold a run's network and write ONNX, contract, classes, parity and, if asked, the engine.

    Args:
        source: a finished run.
        config: what to write.
        out_dir: new or empty; nothing is left in it when the export fails, but for an engine that cannot be built.
        root: folder of the data set, where it is no longer where the run says.
        trust_code: run the python: factory of a run that others made.
        on_stage: told what is being done.
        on_progress: told how far each step is that has parts.
        on_ready: called once the run, its data and the input's size are known to fit.

    Raises:
        PrunekitError: the run cannot be loaded, folded or exported as asked.
    """
    from prunekit.progress import told
    from prunekit_export.staging import staged

    with staged(out_dir) as stage, told(on_progress):
        return _export(source, config, stage, root, trust_code, on_stage or _silent, on_ready or _silent)


def _silent(*_: str) -> None:
    """Say nothing."""


def _export(
    source: RunDirectory,
    config: ExportConfig,
    stage: Stage,
    root: str | None,
    trust_code: bool,
    tell: Callable[[str], None],
    on_ready: Callable[[], None],
) -> ExportOutcome:
    from prunekit.modelfile import load_model
    from prunekit_export.pipeline import export_into
    from prunekit_export.request import ExportRequest

    tell("loading the run")
    loaded = load_model(source, trust_code=trust_code)
    samples = samples_of_run(source, root, trust_code=trust_code)
    images = _images(samples, loaded.contract, config)
    height, width = input_size(loaded.contract, config)
    on_ready()
    segmenter, report = folded(loaded.segmenter, config, images, tell)
    pictures = samples.pictures(tell)
    request = ExportRequest(
        segmenter,
        height=height,
        width=width,
        batch=config.batch,
        dynamic=config.dynamic,
        precision=config.precision,
        trt=config.trt,
        engine=config.engine,
        profile=config.profile,
        end2end=config.end2end,
        picture_size=config.picture_size,
        confidence=config.confidence,
        contract=loaded.contract,
        class_names=loaded.card.class_names,
        palette=loaded.card.palette,
        calibration=images,
        pictures=pictures,
        judged=_judged(samples, config, has_images=bool(pictures)),
        calibration_method=config.calibration,
        keep_fp32=config.keep_fp32,
        max_drop=config.max_miou_drop / 100,
    )
    summary = export_into(stage, request, tell)
    params = sum(parameter.numel() for parameter in segmenter.parameters())
    return ExportOutcome(source.path, report, count_macs(segmenter, height, width), params, summary)


def _images(samples: Samples, contract: Preprocessing, config: ExportConfig) -> list[Tensor]:
    """Return training images as the network sees them, [1, 3, H, W] each, where a step needs some."""
    if config.precision in ("int8", "auto"):
        return samples.covering(contract, config.images or INT8_IMAGES)
    if config.fold != "static" and config.precision == "fp32":
        return []
    return samples.training(contract, config.images or USUAL_IMAGES)


def _judged(samples: Samples, config: ExportConfig, *, has_images: bool) -> list[LabelledPicture]:
    """Return validation images with their classes, by which a lower precision is judged; fp16 and bf16 do without."""
    if config.precision in ("int8", "auto"):
        return samples.judged()
    has_half = config.precision in ("fp16", "bf16")
    return samples.judged(HALF_JUDGED_PICTURES) if has_half and has_images else []


def count_macs(segmenter: Module, height: int, width: int) -> int:
    """Return the multiply-accumulates of convolutions, linear layers and matrix products for one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        segmenter.eval()(torch.zeros(1, 3, height, width))
    return counter.get_total_flops() // 2  # two operations a multiply-accumulate


def folded(
    segmenter: Segmenter, config: ExportConfig, images: list[Tensor], tell: Callable[[str], None]
) -> tuple[Segmenter, FoldReport | None]:
    """Return the segmenter as it is to be written; images are the scenes of the static fold."""
    if config.fold == "none":
        return segmenter, None
    from prunekit.folding.fold import fold

    tell("folding")
    return fold(segmenter, ccs=config.fold, scenes=images or None)


def input_size(contract: Preprocessing, config: ExportConfig) -> tuple[int, int]:
    """Return height and width of the input [px], padding included.

    Raises:
        ExportError: neither the settings nor the contract have a size.
    """
    if config.height:
        return config.height, config.width
    if not contract.height:
        raise ExportUsageError(
            "The run keeps each image's own size, so there is none to export. "
            f"Give {spelled('--height and --width', 'size=(height, width)')}."
        )
    return contract.network_size(contract.height, contract.width)
