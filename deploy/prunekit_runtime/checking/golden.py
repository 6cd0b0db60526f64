"""Read golden pictures of a bundle.

K classes, h w the network's size, H W the picture's size.
"""

import dataclasses
from pathlib import Path
from typing import Optional

import numpy as np

from prunekit_runtime.bundle import Bundle, GoldenEntry
from prunekit_runtime.errors import BundleError, PictureError
from prunekit_runtime.jsonfile import read_bounded
from prunekit_runtime.npz import read_npz
from prunekit_runtime.pictures.png import read_indices
from prunekit_runtime.pictures.reading import MAX_PICTURE_BYTES, read_picture
from prunekit_runtime.preprocessing import ByteArray, FloatArray

IGNORED = 255
MAX_LOGITS_BYTES = 1 << 24
_ARRAYS = {"shares": np.float16, "largest": np.float64, "stride": np.int64}
_REMEDY = "Write the bundle again."


@dataclasses.dataclass(frozen=True)
class GoldenLogits:
    """Every s-th pixel of the expected logits, float32 (K, h/s, w/s), rounded to 11 bits of the largest magnitude."""

    sampled_Khw: FloatArray
    largest: float
    stride: int

    def error_of(self, logits_Khw: FloatArray) -> float:
        """Return the largest error, as a share of the largest expected magnitude.

        Raises:
            BundleError: the sizes differ.
        """
        sampled_Khw = logits_Khw[:, :: self.stride, :: self.stride]
        if sampled_Khw.shape != self.sampled_Khw.shape:
            raise BundleError(
                f"The model gives logits of shape {logits_Khw.shape}, and every {self.stride}th of the golden ones is "
                f"{self.sampled_Khw.shape}. {_REMEDY}"
            )
        return float(np.abs(sampled_Khw - self.sampled_Khw).max() / self.largest)


@dataclasses.dataclass(frozen=True)
class Golden:
    """A picture, uint8 (H, W, 3), and what is expected of it; labels are uint8 (H, W)."""

    name: str
    image_HW3: ByteArray
    labels_HW: ByteArray
    truth_HW: Optional[ByteArray]
    logits: Optional[GoldenLogits]


def read_golden(bundle: Bundle, entry: GoldenEntry) -> Golden:
    """Read one golden picture.

    Raises:
        BundleError: its parts cannot be read, or do not belong together.
        PictureError: the picture cannot be read.
    """
    image_HW3 = read_picture(bundle.folder / entry.picture)
    labels_HW = _labels(bundle.folder / entry.labels)
    truth_HW = None if entry.truth is None else _labels(bundle.folder / entry.truth)
    for array, file in ((labels_HW, entry.labels), (truth_HW, entry.truth)):
        if array is not None and array.shape != image_HW3.shape[:2]:
            raise BundleError(f"{file} has another size than {entry.picture}. {_REMEDY}")
    logits = None if entry.logits is None else _logits(bundle.folder / entry.logits)
    return Golden(entry.name, image_HW3, labels_HW, truth_HW, logits)


def _labels(path: Path) -> ByteArray:
    try:
        return read_indices(read_bounded(path, MAX_PICTURE_BYTES))
    except ValueError as error:
        raise PictureError(f"{path} {error}") from None


def _logits(path: Path) -> GoldenLogits:
    try:
        arrays = read_npz(path, _ARRAYS, {}, MAX_LOGITS_BYTES)
        shares, largest, stride = (arrays[name] for name in _ARRAYS)
        if shares.ndim != 3 or not shares.size or largest.shape != (1,) or stride.shape != (1,):
            raise ValueError(f"it holds {shares.shape}, {largest.shape} and {stride.shape}")
        if not (np.isfinite(shares).all() and 0 < largest[0] < np.inf and stride[0] >= 1):
            raise ValueError("it holds numbers that are no logits")
    except ValueError as error:
        raise BundleError(f"{path} cannot be used: {error}. {_REMEDY}") from error
    return GoldenLogits(shares.astype(np.float32) * np.float32(largest[0]), float(largest[0]), int(stride[0]))
