"""The preprocessing contract: how an image becomes the network's input, and its logits become labels again.

One JSON object, saved with the model and read by training, export and the device, so that all see the same numbers.
Shape suffixes: H, W the image's size; h, w the network's size, padding included; K classes; C channels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from prunekit_runtime.errors import ContractError, ContractUsageError
from prunekit_runtime.jsonfile import parse_json, read_bounded
from prunekit_runtime.near import near_path
from prunekit_runtime.rules import RULES, check_rules

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

FORMAT_VERSION = 1
MAX_CONTRACT_BYTES = 1 << 16
MAX_SIDE = 1 << 14  # px; an image above it is a mistake or an attack, not a camera
MAX_PIXELS = 1 << 26  # 67 megapixels, 0.8 GB as float32 in three colours


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an RGB uint8 image becomes the network's float32 input: resize, scale, normalise, pad.

    `height` and `width` [px] are what the network sees before padding; both 0 keep each image's own size. Images come
    in RGB; where `channel_order` is "bgr" they are turned round first, and `mean` and `std` are in that order too.
    Padding is zeros after normalisation, at the bottom and the right, to a multiple of `pad_multiple`. What is done in
    one way only is in `rules.RULES`; docs/preprocessing.md explains all.
    """

    height: int
    width: int
    resize: str = "bilinear"  # half-pixel centres, no antialias
    channel_order: str = "rgb"  # as the network sees the channels: rgb or bgr
    scale: float = 1.0 / 255.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet, RGB, of pixels scaled to [0, 1]
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    pad_multiple: int = 1
    layout: str = "NCHW"
    dtype: str = "float32"

    _KNOWN: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "resize": ("bilinear",),
        "channel_order": ("rgb", "bgr"),
        "layout": ("NCHW",),
        "dtype": ("float32",),
    }

    def __post_init__(self) -> None:
        for name, known in self._KNOWN.items():
            _require(getattr(self, name) in known, name, getattr(self, name), f"Known: {', '.join(known)}.")
        for name in ("height", "width"):
            _require_integer(name, getattr(self, name), low=0)
        _require_integer("pad_multiple", self.pad_multiple, low=1)
        both = (self.height == 0) == (self.width == 0)
        _require(both, "height, width", (self.height, self.width), "Give both, or 0 and 0 to keep the image's size.")
        padded = self.network_size(self.height, self.width)
        _require(
            padded[0] * padded[1] <= MAX_PIXELS, "the padded size", padded, f"At most {MAX_PIXELS} px are allowed."
        )
        _require(_is_number(self.scale) and self.scale > 0, "scale", self.scale, "Write 1/255 for pixels in [0, 1].")
        for name in ("mean", "std"):
            _require_triple(name, getattr(self, name))
        _require(all(map(_is_positive, self.std)), "std", self.std, "Each must be above 1e-6.")

    def to_json(self) -> dict[str, Any]:
        """Return the contract as a JSON object, every key and every rule written."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"version": FORMAT_VERSION, **values, "mean": list(self.mean), "std": list(self.std), **RULES}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Read a contract; every key must be known, and there, except for rules, which earlier releases did not write.

        Raises:
            ContractError: a key is unknown or missing, the version is another one, or a value cannot be followed.
        """
        known = {"version", *(field.name for field in dataclasses.fields(cls))}
        if not isinstance(cast(object, values), Mapping):
            raise ContractError(f"A preprocessing contract is a JSON object, got {type(values).__name__}.")
        unknown, missing = sorted(set(map(str, values)) - known - RULES.keys()), sorted(known - set(values))
        if unknown or missing:
            some = [key[:40] for key in unknown[:5]]
            raise ContractError(f"Preprocessing contract: unknown keys {some}, missing keys {missing}. {_REMEDY}")
        _require(
            values["version"] == FORMAT_VERSION, "version", values["version"], f"This release reads {FORMAT_VERSION}."
        )
        check_rules(values)
        fields = {name: value for name, value in values.items() if name in known and name != "version"}
        for name in ("mean", "std"):
            fields[name] = _triple(name, fields[name])
        return cls(**fields)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) [px] of an image of this size after resizing, before padding."""
        return (self.height, self.width) if self.height else (height, width)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (h, w) [px] of the network's input for an image of this size, padding included."""
        resized = self.resized_size(height, width)
        return _padded(resized[0], self.pad_multiple), _padded(resized[1], self.pad_multiple)

    def prepare(self, image_HW3: ByteArray) -> FloatArray:
        """Turn an RGB image, uint8 (H, W, 3), into the network's input, float32 (1, 3, h, w).

        Raises:
            ContractError: the array has another shape or type, or more than 67 megapixels, padding included.
        """
        _check_image(image_HW3)
        self._check_size(*image_HW3.shape[:2])
        ordered_HW3 = image_HW3[..., ::-1] if self.channel_order == "bgr" else image_HW3
        image_3HW = ordered_HW3.transpose(2, 0, 1).astype(np.float32, order="C")
        resized_3hw = resize_bilinear(image_3HW, *self.resized_size(*image_HW3.shape[:2]))
        mean_311, std_311 = (np.asarray(values, dtype=np.float32).reshape(3, 1, 1) for values in (self.mean, self.std))
        normalised_3hw = (resized_3hw * np.float32(self.scale) - mean_311) / std_311
        return self._pad(normalised_3hw)[None]

    def restore_logits(self, logits_1Khw: FloatArray, height: int, width: int) -> FloatArray:
        """Crop the padding off logits and resize them to an image's size [px].

        Returns:
            float32 (K, height, width)

        Raises:
            ContractError: the logits do not have the size that an image of this size gives.
        """
        return resize_bilinear(self._cropped(logits_1Khw, height, width), height, width)

    def restore_labels(self, logits_1Khw: FloatArray, height: int, width: int) -> ByteArray:
        """Return the class of each pixel of an image of this size [px], uint8 (height, width).

        Raises:
            ContractError: as `restore_logits`, or more than 256 classes.
        """
        logits_Khw = self._cropped(logits_1Khw, height, width)
        if not 0 < len(logits_Khw) <= 256:
            raise ContractError(f"Labels are uint8, so 1 to 256 classes; got {len(logits_Khw)}. Use restore_logits.")
        # One class after the other: all of them at the size of a camera image are memory that a small board lacks.
        best_1HW = resize_bilinear(logits_Khw[:1], height, width)
        labels_HW = np.zeros((height, width), dtype=np.uint8)
        for label in range(1, len(logits_Khw)):
            candidate_1HW = resize_bilinear(logits_Khw[label : label + 1], height, width)
            labels_HW[(candidate_1HW > best_1HW)[0]] = label
            best_1HW = np.maximum(best_1HW, candidate_1HW)
        return labels_HW

    def _check_size(self, height: int, width: int) -> None:
        """Refuse an image that is too large, or is padded to too large a size: both take memory for each pixel."""
        for rows, columns in ((height, width), self.network_size(height, width)):
            if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
                raise ContractError(
                    f"{rows} x {columns} px cannot be prepared, at most {MAX_PIXELS} in all. Shrink it."
                )

    def _cropped(self, logits_1Khw: FloatArray, height: int, width: int) -> FloatArray:
        self._check_size(height, width)
        expected = self.network_size(height, width)
        if logits_1Khw.ndim != 4 or logits_1Khw.shape[0] != 1 or logits_1Khw.shape[2:] != expected:
            raise ContractError(
                f"Logits for an image of {height} x {width} must have the shape (1, K, {expected[0]}, {expected[1]}), "
                f"got {logits_1Khw.shape}. Pass the height and width of the image that was prepared."
            )
        rows, columns = self.resized_size(height, width)
        return logits_1Khw[0, :, :rows, :columns].astype(np.float32, copy=False)

    def _pad(self, image_3hw: FloatArray) -> FloatArray:
        height, width = image_3hw.shape[1:]
        below, right = _padded(height, self.pad_multiple) - height, _padded(width, self.pad_multiple) - width
        return np.pad(image_3hw, ((0, 0), (0, below), (0, right)))


_REMEDY = "Export the model again, or write the file with Preprocessing.to_json."


def read_contract(path: Path) -> Preprocessing:
    """Read a contract from a JSON file.

    Raises:
        ContractError: the file is missing, larger than 64 KiB, no JSON, or no contract.
    """
    try:
        values = parse_json(read_bounded(path, MAX_CONTRACT_BYTES))
    except FileNotFoundError as error:
        raise ContractUsageError(f"Preprocessing contract {path} does not exist.{near_path(path)} {_REMEDY}") from error
    except OSError as error:
        raise ContractError(f"Preprocessing contract {path} cannot be read: {error.strerror}. {_REMEDY}") from error
    except ValueError as error:
        raise ContractError(f"Preprocessing contract {path} is no JSON: {error}. {_REMEDY}") from error
    return Preprocessing.from_json(values)


def resize_bilinear(array_CHW: FloatArray, height: int, width: int) -> FloatArray:
    """Resize float32 (C, H, W) to (C, height, width): half-pixel centres, no antialias, edges repeated.

    The numbers of torch's interpolate(mode="bilinear", align_corners=False, antialias=False), to 1e-5 of the values'
    range up to 256 px and to the last bit of a float32 coordinate above.
    """
    rows, columns = array_CHW.shape[1:]
    resized = array_CHW
    # The axis that shrinks most goes first: the intermediate is smaller, the result the same to rounding.
    order = ((1, rows, height), (2, columns, width))
    for axis, old, new in sorted(order, key=lambda step: step[2] / step[1]):
        resized = _resize_axis(resized, axis, old, new)
    return resized


def _resize_axis(array_CHW: FloatArray, axis: int, old: int, new: int) -> FloatArray:
    if old == new:
        return array_CHW
    low, high, weight = _taps(old, new)
    shape = [1, 1, 1]
    shape[axis] = new
    weight = weight.reshape(shape)
    below, above = np.take(array_CHW, low, axis=axis), np.take(array_CHW, high, axis=axis)
    return (below * (np.float32(1) - weight) + above * weight).astype(np.float32, copy=False)


def _taps(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    # As torch: float32 coordinates, rounded once (a float64 product of two float32 values is exact). Some of torch's
    # kernels round twice, so they and this differ by the last bit of the coordinate: 3e-5 px beyond 256 px.
    step = np.float64(np.float32(old) / np.float32(new))
    centres = (step * (np.arange(new, dtype=np.float64) + 0.5) - 0.5).astype(np.float32)
    centres = np.maximum(centres, np.float32(0))
    low = np.minimum(centres.astype(np.int64), old - 1)
    weight = np.clip(centres - low.astype(np.float32), 0, 1).astype(np.float32, copy=False)
    return low, np.minimum(low + 1, old - 1), weight


def _padded(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _check_image(image_HW3: ByteArray) -> None:
    shape, kind = image_HW3.shape, image_HW3.dtype
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or not all(0 < side <= MAX_SIDE for side in shape):
        raise ContractError(
            f"An image must be uint8 (H, W, 3) in RGB order with sides of 1 to {MAX_SIDE} px, got {kind} {shape}. "
            "Decode it to RGB bytes first."
        )


def _is_number(value: object) -> bool:
    # The bound keeps float32 arithmetic finite, and refuses nan, which compares false.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e6


def _is_positive(value: object) -> bool:
    return _is_number(value) and cast(float, value) >= 1e-6


def _require(fulfilled: bool, name: str, got: object, remedy: str) -> None:
    if not fulfilled:
        shown = repr(got)
        shown = shown if len(shown) <= 100 else f"{shown[:100]}..."
        raise ContractError(f"Preprocessing contract: {name} cannot be {shown}. {remedy}")


def _require_integer(name: str, value: object, *, low: int) -> None:
    fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= MAX_SIDE
    _require(fits, name, value, f"Write a whole number from {low} to {MAX_SIDE}.")


def _require_triple(name: str, values: object) -> None:
    numbers = cast(Sequence[object], values) if isinstance(values, tuple) else ()
    _require(len(numbers) == 3 and all(map(_is_number, numbers)), name, values, "Write three finite numbers.")


def _triple(name: str, values: object) -> tuple[float, float, float]:
    _require(isinstance(values, list), name, values, "Write a list of three numbers.")
    return cast(tuple[float, float, float], tuple(cast(Sequence[float], values)))
