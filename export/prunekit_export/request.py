"""What an export is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunekit_export.engine import USUAL, EngineOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from prunekit_export.engine import EngineReport, Profile
    from prunekit_export.graph import ExportReport
    from prunekit_export.parity import ParityReport, PictureParity
    from prunekit_export.precision import RangeReport
    from prunekit_export.quantising import Calibration, Cost, LabelledPicture, QuantisedReport
    from prunekit_runtime.preprocessing import ByteArray, Preprocessing

Precision = Literal["fp32", "fp16", "bf16", "int8", "auto"]
"""auto is int8 with the layers in fp16 that the mIoU needs there."""
PictureSize = tuple[int, int] | Literal["any"] | None
"""Height and width of pictures [px]; None is the size that the validation images have, or the contract's."""


@dataclass(frozen=True)
class ExportRequest:
    """What to write, and from what."""

    segmenter: torch.nn.Module
    height: int
    width: int
    contract: Preprocessing
    class_names: Sequence[str]
    palette: Sequence[Sequence[int]]
    batch: int = 1
    dynamic: bool = False
    precision: Precision = "fp32"
    trt: bool = False
    calibration: Sequence[torch.Tensor] = ()
    pictures: Sequence[ByteArray] = ()
    engine: EngineOptions = USUAL
    profile: Profile | None = None
    """Sizes that the engine takes where the file leaves them open; None is from half to twice the input's."""
    end2end: bool = False
    """Also write files from uint8 pictures to labels, and build the engine from such a file."""
    picture_size: PictureSize = None
    confidence: bool = False
    judged: Sequence[LabelledPicture] = ()
    """Pictures with known labels, by which fp16, bf16 and int8 are judged; int8 needs some."""
    keep_fp32: Sequence[str] = ()
    """Nodes that stay in float32, besides those that would overflow."""
    calibration_method: Calibration = "entropy"
    max_drop: float = 0.005
    """Of the mIoU, that fp16, bf16 or int8 may cost."""


@dataclass(frozen=True)
class ExportSummary:
    """The files written, and what was measured on the way; what was not asked for is None."""

    out_dir: Path
    precision: Precision
    onnx: ExportReport
    onnx_half: ExportReport | None
    parity: ParityReport
    """The file of fp16 or bf16."""
    parity_half: ParityReport | None
    ranges: RangeReport | None
    engine: EngineReport | None
    files: tuple[Path, ...]
    labels: tuple[PictureParity, ...] = ()
    """Of each file from pictures to labels, how it agrees with the file of logits that it was made from."""
    onnx_int8: ExportReport | None = None
    int8: QuantisedReport | None = None
    half_cost: Cost | None = None
    """What fp16 or bf16 costs in mIoU; None where no image has known labels."""

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
