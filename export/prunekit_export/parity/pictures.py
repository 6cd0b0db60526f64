"""Does a file from pictures to labels give the labels that preprocessing, network and postprocessing give apart?

K classes, H W a picture's size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_export.parity.agreement import MIN_AGREEMENT, agreement
from prunekit_runtime.preprocessing import resize_bilinear
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.running.picturing import PictureModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prunekit_runtime.preprocessing import ByteArray, Preprocessing

# Both run in ONNX Runtime; the coordinates of a resize differ by a rounding, some 3e-5 px, and nothing else does.
_ROUNDING = 1e-3
_MIN_DECIDED = 0.9999


@dataclass(frozen=True)
class PictureParity:
    """What was compared, over all pictures; shares of pixels in [0, 1]."""

    file: str
    runtime: str
    sizes: tuple[tuple[int, int], ...]
    """Of the pictures, height and width [px]."""
    real: int
    """How many of them are validation images; the others are drawn."""
    label_agreement: float
    decided_agreement: float
    """Over the pixels that the network decides by more than rounding."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return dataclasses.asdict(self)


def picture_parity(
    logits: Path,
    labels: Path,
    contract: Preprocessing,
    pictures: Sequence[ByteArray],
    sizes: Sequence[tuple[int, int]],
) -> PictureParity:
    """Compare a file of the graph "labels" with the file of logits that it was made from.

    Args:
        logits: float32 images to logits.
        labels: uint8 pictures to labels.
        contract: of both.
        pictures: RGB, uint8 (H, W, 3) each; resized where they have another size.
        sizes: to compare at, height and width [px].

    Raises:
        ExportError: a label differs that is not decided by rounding, or more than 1 % of all do.
    """
    given = [_sized(picture, *size) for size in sizes for picture in pictures]
    compared = [*given, *(_drawn(*size) for size in sizes)]
    with OrtRunner(logits) as apart, OrtRunner(labels, graph="labels") as inside:
        models = PictureModel(apart, contract), PictureModel(inside, contract)
        told = counted(compared, f"Comparing {labels.name} with {logits.name}", len(compared))
        shares = [_compare(*models, picture_HW3) for picture_HW3 in told]
        runtime = inside.name
    report = PictureParity(
        labels.name,
        runtime,
        tuple(sizes),
        len(given),
        min(share for share, _ in shares),
        min(share for _, share in shares),
    )
    if report.label_agreement < MIN_AGREEMENT or report.decided_agreement < _MIN_DECIDED:
        raise ExportError(
            f"{labels.name} does not give the labels of {logits.name} with its preprocessing: they agree on "
            f"{report.label_agreement:.2%} of the pixels, {report.decided_agreement:.2%} of those that the network "
            "decides clearly. Export without --end2end, and report this network."
        )
    return report


def _compare(apart: PictureModel, inside: PictureModel, picture_HW3: ByteArray) -> tuple[float, float]:
    """Return the shares of equal labels, of all pixels and of the decided ones."""
    height, width = picture_HW3.shape[:2]
    # A file of a fixed number of images takes the picture that often.
    expected, got = (_computed(model, picture_HW3) for model in (apart, inside))
    logits_1KHW = apart.contract.restore_logits(expected, height, width)[None]
    one_hot_1KHW = (inside.labels(got, height, width) == np.arange(logits_1KHW.shape[1])[:, None, None])[None]
    found = agreement(logits_1KHW, one_hot_1KHW.astype(np.float32), _ROUNDING)
    return found.all, found.decided


def _computed(model: PictureModel, picture_HW3: ByteArray) -> Any:
    inputs = model.prepare(picture_HW3)
    return model.compute(np.repeat(inputs, model.input_shape[0] or 1, axis=0))[:1]


def _sized(picture_HW3: ByteArray, height: int, width: int) -> ByteArray:
    if picture_HW3.shape[:2] == (height, width):
        return picture_HW3
    resized = resize_bilinear(picture_HW3.transpose(2, 0, 1).astype(np.float32), height, width)
    return np.ascontiguousarray(resized.round().astype(np.uint8).transpose(1, 2, 0))


def _drawn(height: int, width: int) -> ByteArray:
    """Return coloured patches with noise."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (3, 5, 7)).astype(np.float32)
    noise = generator.normal(0, 6, (3, height, width))
    values = np.clip(resize_bilinear(coarse, height, width) + noise, 0, 255)
    return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))
