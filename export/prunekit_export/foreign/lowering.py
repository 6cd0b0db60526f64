"""fp16, bf16 and int8 of files that others made: calibrated and judged on a data set, or on a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from prunekit_export.errors import ExportUsageError
from prunekit_export.foreign.opening import first_line
from prunekit_export.graph import value_dims
from prunekit_export.job import Job
from prunekit_export.lowering import WrittenInt8, write_half, write_int8
from prunekit_export.precision import HALVES, open_session
from prunekit_export.request import ExportRequest
from prunekit_export.samples import HALF_JUDGED_PICTURES, INT8_IMAGES, JUDGED_PICTURES, USUAL_IMAGES, Samples, of_folder
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx
    from torch import Tensor

    from prunekit.recipe import DataConfig
    from prunekit_export.job import Written
    from prunekit_export.quantising import Calibration, LabelledPicture
    from prunekit_export.request import Precision
    from prunekit_export.staging import Stage
    from prunekit_runtime.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Lowering:
    """A precision below float32, and the images it is calibrated and judged on."""

    precision: Precision
    data: DataConfig | None = None
    """A data set with labels, which the user named."""
    pictures: Path | None = None
    """A folder of pictures without labels, where there is no data set."""
    images: int | None = None
    """To calibrate with; None is 64 for int8 and auto, else 16."""
    keep_fp32: tuple[str, ...] = ()
    calibration: Calibration = "entropy"
    max_drop: float = 0.005
    """Of the mIoU."""

    def __post_init__(self) -> None:
        if self.data is None and self.pictures is None:
            raise ExportUsageError(
                f"{self.precision} is calibrated and judged on images, and an ONNX file has none. Name a data set "
                f"({spelled('--data NAME --root DIR', 'data')}) or a folder of pictures "
                f"({spelled('--root DIR', 'pictures')})."
            )

    @property
    def is_int8(self) -> bool:
        """Whether some of it computes in int8."""
        return self.precision not in HALVES


class OnnxNetwork(nn.Module):
    """images_B3HW -> logits_BKHW by ONNX Runtime: a file in the place of the network that files are compared with."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self._session: Any = open_session(model)
        self._input = model.graph.input[0].name

    def __deepcopy__(self, _: object) -> OnnxNetwork:
        return self  # it holds nothing that changes

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits_BKHW.

        Raises:
            RuntimeError: ONNX Runtime does not take the images, as torch says it.
        """
        if images_B3HW.dtype != torch.float32:
            raise RuntimeError(f"the file computes in float32, not in {images_B3HW.dtype}")
        try:
            logits: Any = self._session.run(None, {self._input: images_B3HW.numpy()})[0]
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise RuntimeError(first_line(error)) from error
        return torch.from_numpy(logits)


def lowered(
    stage: Stage,
    model: onnx.ModelProto,
    contract: Preprocessing,
    asked: Lowering,
    tell: Callable[[str], None],
) -> Written | WrittenInt8:
    """Write model.fp16.onnx, model.bf16.onnx or model.int8.onnx beside model.onnx, compared with it.

    Args:
        stage: has model.onnx.
        model: the same, (N, 3, h, w) to logits (N, K, h, w).
        contract: how images are prepared, height and width included.
        asked: what to write.
        tell: told what is being done.

    Raises:
        PrunekitError: the images cannot be read or have other classes, or the file is too far from the float32 one.
    """
    batch, classes = value_dims(model.graph.input[0])[0], _classes(model)
    calibration, judged = _of_data(asked, contract, classes) if asked.data else _of_pictures(asked, contract)
    request = ExportRequest(
        OnnxNetwork(model),
        height=contract.height,
        width=contract.width,
        contract=contract,
        class_names=[f"class {index}" for index in range(classes)],
        palette=(),
        batch=batch if isinstance(batch, int) else 1,
        precision=asked.precision,
        calibration=calibration,
        pictures=[picture for picture, _ in judged[:4]],
        judged=judged,
        keep_fp32=asked.keep_fp32,
        calibration_method=asked.calibration,
        max_drop=asked.max_drop,
    )
    job = Job(stage, request, contract, tell)
    return write_int8(job) if asked.is_int8 else write_half(job, HALVES[asked.precision])


def _classes(model: onnx.ModelProto) -> int:
    classes = value_dims(model.graph.output[0])[1]
    if not isinstance(classes, int):
        raise ExportUsageError("The file does not say how many classes its logits have. Fix that dimension first.")
    return classes


def _of_data(asked: Lowering, contract: Preprocessing, classes: int) -> tuple[list[Tensor], list[LabelledPicture]]:
    from prunekit.data.registry import open_dataset

    data = asked.data
    assert data is not None
    known = len(open_dataset(data, "val", trust_code=True).classes)  # the user named it, so its code may run
    if known != classes:
        raise ExportUsageError(
            f"The file has {classes} classes, the data set {known}. Name the one that it was trained on "
            f"({spelled('--data, --root, --classes', 'data')})."
        )
    samples = Samples(lambda: data, named=True, trust_code=True)
    if asked.is_int8:
        return samples.covering(contract, asked.images or INT8_IMAGES), samples.judged()
    return samples.training(contract, asked.images or USUAL_IMAGES), samples.judged(HALF_JUDGED_PICTURES)


def _of_pictures(asked: Lowering, contract: Preprocessing) -> tuple[list[Tensor], list[LabelledPicture]]:
    most = (INT8_IMAGES, JUDGED_PICTURES) if asked.is_int8 else (USUAL_IMAGES, HALF_JUDGED_PICTURES)
    assert asked.pictures is not None
    return of_folder(asked.pictures, contract, asked.images or most[0], most[1])
