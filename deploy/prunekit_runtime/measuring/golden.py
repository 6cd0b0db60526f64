"""The golden check: known input, expected logits, so that a device can prove that its engine computes the same.

Shape suffixes: N images, K classes, h, w the network's size, H, W the picture's size.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, Optional, cast

import numpy as np
import numpy.typing as npt

from prunekit_runtime.errors import GoldenError, GoldenUsageError
from prunekit_runtime.near import near_path
from prunekit_runtime.npz import read_npz
from prunekit_runtime.preprocessing import ByteArray, FloatArray, Preprocessing
from prunekit_runtime.running.runner import Runner

MAX_GOLDEN_BYTES = 1 << 28  # unpacked; about 20 pictures of 1024 x 2048 as float32
# Preprocessing is the same float32 arithmetic everywhere; rounding is all that may differ.
MAX_PREPROCESSING_ERROR = 1e-4
_REQUIRED: dict[str, Any] = {"images": np.float32, "logits": np.float32}
_OPTIONAL: dict[str, Any] = {"picture": np.uint8}
_DTYPES: dict[str, Any] = {**_REQUIRED, **_OPTIONAL}
_AXES = {"images": 4, "logits": 4, "picture": 3}
_REMEDY = "Write it again: python -m prunekit_runtime golden model.onnx --contract preprocessing.json --out golden.npz"


@dataclasses.dataclass(frozen=True)
class GoldenReport:
    """How far a runner is from the golden logits; `label_agreement` is a share of pixels in [0, 1]."""

    runner: str
    max_abs_error: float
    max_abs_logit: float  # of the expected logits: the scale to read the error against
    label_agreement: float
    preprocessing_max_abs_error: float | None  # None: no contract was given, or the file holds no picture

    def passed(self, min_agreement: float) -> bool:
        """Tell whether the labels agree well enough and the input was the same; a nan anywhere fails."""
        same_input = self.preprocessing_max_abs_error is None
        same_input = same_input or (self.preprocessing_max_abs_error or 0.0) <= MAX_PREPROCESSING_ERROR
        return self.label_agreement >= min_agreement and self.max_abs_error < math.inf and same_input

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object; JSON knows no nan or infinity, so they become null."""
        values = dataclasses.asdict(self)
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


@dataclasses.dataclass(frozen=True)
class GoldenCheck:
    """Network input and expected logits, and optionally the RGB picture that the first input was prepared from."""

    images: FloatArray  # (N, 3, h, w), what the network takes
    logits: FloatArray  # (N, K, h, w), what it must give
    # Optional, not |: the array types of numpy 1.21, which Ubuntu 22.04 brings, know no | when the class is made.
    picture: Optional[ByteArray] = None  # (H, W, 3), before preprocessing

    def __post_init__(self) -> None:
        for name, array in self._arrays().items():
            if array.dtype != _DTYPES[name] or array.ndim != _AXES[name] or not array.size:
                raise GoldenError(f"Golden {name} cannot be {array.dtype} {array.shape}. {_REMEDY}")
        images, logits = self.images.shape, self.logits.shape
        if images[0] != logits[0] or images[2:] != logits[2:] or images[1] != 3:
            raise GoldenError(f"Golden images {images} and logits {logits} do not belong together. {_REMEDY}")
        if not (np.isfinite(self.images).all() and np.isfinite(self.logits).all()):
            raise GoldenError(f"Golden images or logits hold nan or infinity. {_REMEDY}")

    def check(self, runner: Runner, contract: Preprocessing | None = None) -> GoldenReport:
        """Run the images and compare; with a contract also prepare the picture and compare that.

        Raises:
            GoldenError: the runner's logits have another shape.
            RunnerError: the images do not fit the model.
        """
        logits_NKhw = runner.run(self.images)
        if logits_NKhw.shape != self.logits.shape:
            expected = self.logits.shape
            raise GoldenError(f"{runner.name} gives logits {logits_NKhw.shape}, expected {expected}. {_REMEDY}")
        # nan must not hide behind a maximum: nan here stays nan, which no tolerance accepts.
        error = float(np.abs(logits_NKhw - self.logits).max())
        agrees_Nhw = logits_NKhw.argmax(axis=1) == self.logits.argmax(axis=1)
        agreement = np.mean(agrees_Nhw & np.isfinite(logits_NKhw).all(axis=1))
        return GoldenReport(
            runner=runner.name,
            max_abs_error=error,
            max_abs_logit=float(np.abs(self.logits).max()),
            label_agreement=float(agreement),
            preprocessing_max_abs_error=None if contract is None else self.check_preprocessing(contract),
        )

    def check_preprocessing(self, contract: Preprocessing) -> float | None:
        """Prepare the picture and return the largest difference from the first image; None without a picture.

        Raises:
            GoldenError: the contract gives another size.
        """
        if self.picture is None:
            return None
        prepared_13hw = contract.prepare(self.picture)
        if prepared_13hw.shape[1:] != self.images.shape[1:]:
            expected = self.images.shape[1:]
            raise GoldenError(f"The contract gives images {prepared_13hw.shape[1:]}, expected {expected}. {_REMEDY}")
        return float(np.abs(prepared_13hw[0] - self.images[0]).max())

    def save(self, path: Path) -> None:
        """Write the npz file; a reader sees the whole file or none."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)  # of a killed process that had our number, or a link to another file
        try:
            with temporary.open("xb") as file:  # never through a link that lies there
                np.savez_compressed(file, **cast(dict[str, Any], self._arrays()))
            temporary.replace(path)
        except OSError as error:
            error.filename, error.filename2 = str(path), None  # the file that was asked for, not its first name
            raise
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "GoldenCheck":
        """Read an npz file from anyone: no pickle, known names and types only, bounded memory.

        Raises:
            GoldenError: the file is missing, damaged, too large or holds something else.
        """
        try:
            return cls(**cast(dict[str, Any], read_npz(path, _REQUIRED, _OPTIONAL, MAX_GOLDEN_BYTES)))
        except FileNotFoundError as error:
            raise GoldenUsageError(f"Golden file {path} does not exist.{near_path(path)} {_REMEDY}") from error
        except OSError as error:
            raise GoldenError(f"Golden file {path} cannot be read: {error.strerror or error}. {_REMEDY}") from error
        except ValueError as error:
            raise GoldenError(f"Golden file {path} cannot be used: {error}. {_REMEDY}") from error

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _DTYPES}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
