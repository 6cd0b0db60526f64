"""What one image and its labels show.

Shapes: H height, W width.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from prunekit.data.checking.sources import Source
from prunekit.data.dataset import Sample, SegmentationDataset, size_text
from prunekit.data.images import IMAGE_FORMATS, MASK_FORMATS, Header, read_header, read_image
from prunekit.data.labels.counts import pixel_counts
from prunekit.data.labels.masks import Value
from prunekit.data.pairs import Pair
from prunekit.errors import DataError

_MODES: Final = {
    "1": "1 bit",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "I": "16-bit grey",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
}
_SMOOTHED: Final = 0.2
"""Share of borders with a number between the two sides: a third and more where masks are smoothed, 0.02 where not."""
_BORDERS: Final = 50
"""Pixels at borders, below which a share says nothing."""
_ROW_STEP: Final = 3

FaultKind = Literal["image", "mask", "turned", "swapped", "sizes", "sample"]


@dataclass(frozen=True)
class Fault:
    """Why a data set would refuse a sample."""

    kind: FaultKind
    text: str


@dataclass(frozen=True, eq=False)
class Colours:
    """Sums over the pixels of an image, from which mean and deviation follow for many together."""

    pixels: int
    sums: tuple[int, ...]
    """Of red, green and blue, each 0 to 255."""
    squares: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of a sample that was looked at: numbers, no pixels."""

    name: str
    image: str = ""
    """The file; empty where a data set has none."""
    mask: str = ""
    image_HW: tuple[int, int] | None = None
    mask_HW: tuple[int, int] | None = None
    image_format: str = ""
    mask_format: str = ""
    digest: bytes = b""
    """Of the decoded image."""
    colours: Colours | None = None
    labels: Mapping[int, int] | None = None
    """Pixels by label, the ignored ones included; None where the mask cannot be read."""
    unknown: Mapping[Value, int] = field(default_factory=dict[Value, int])
    """Pixels by number or colour that is no class."""
    smoothed: bool = False
    """The mask looks as if it had been resized or drawn with soft edges."""
    faults: tuple[Fault, ...] = ()


def look_at_pair(pair: Pair, source: Source) -> Seen:
    """Return what an image file and its mask show, every fault included."""
    faults: list[Fault] = []
    image, pixels = _image(pair.image, source.white_level, faults)
    mask, labels_HW, unknown = _mask(pair.mask, source, faults)
    faults += _sizes(pair, image, mask)
    return Seen(
        pair.name,
        str(pair.image),
        str(pair.mask),
        None if image is None else image.size_HW,
        None if mask is None else mask.size_HW,
        _format(image),
        _format(mask),
        b"" if pixels is None else _digest(pixels),
        None if pixels is None else _colours(pixels),
        None if labels_HW is None else _present(labels_HW),
        unknown,
        labels_HW is not None and is_smoothed(labels_HW),
        tuple(faults),
    )


def look_at_sample(dataset: SegmentationDataset, index: int) -> Seen:
    """Return what a sample of any data set shows."""
    try:
        sample: Sample = dataset[index]
    except DataError as error:
        return Seen(f"sample {index}", faults=(Fault("sample", str(error)),))
    labels_HW = sample.labels_HW.numpy()
    height, width = labels_HW.shape
    present = _present(labels_HW)
    classes = dataset.classes
    unknown: dict[Value, int] = {
        label: count for label, count in present.items() if label >= len(classes) and label != classes.ignore_index
    }
    return Seen(
        sample.name,
        image_HW=(height, width),
        mask_HW=(height, width),
        digest=_digest(sample.image_3HW),
        colours=_colours(sample.image_3HW),
        labels=None if unknown else present,
        unknown=unknown,
        smoothed=is_smoothed(labels_HW),
    )


def is_smoothed(labels_HW: npt.NDArray[np.uint8]) -> bool:
    """Tell whether many borders have a number in between, as linear resizing of a mask leaves them."""
    left, middle, right = (labels_HW[::_ROW_STEP, place : labels_HW.shape[1] - 2 + place] for place in range(3))
    low, high = np.minimum(left, right), np.maximum(left, right)
    border = high - low > 1  # else there is no number in between
    between = border & (low < middle) & (middle < high)
    return int(border.sum()) >= _BORDERS and bool(between.sum() > _SMOOTHED * border.sum())


def _image(path: Path, white_level: int, faults: list[Fault]) -> tuple[Header | None, Tensor | None]:
    header = None
    try:
        header = read_header(path, IMAGE_FORMATS)
        return header, read_image(path, turn=True, white_level=white_level)
    except DataError as error:
        faults.append(Fault("image", str(error)))
        return header, None


def _mask(
    path: Path, source: Source, faults: list[Fault]
) -> tuple[Header | None, npt.NDArray[np.uint8] | None, dict[Value, int]]:
    header = None
    try:
        header = read_header(path, MASK_FORMATS)
        return header, source.read(path), {}
    except DataError as error:
        unknown = {} if header is None else _unknown(path, source)
        if not unknown:
            faults.append(Fault("mask", str(error)))
        return header, None, unknown


def _unknown(path: Path, source: Source) -> dict[Value, int]:
    try:
        return source.unknown(path)
    except DataError:  # of which the reader's own error says more
        return {}


def _sizes(pair: Pair, image: Header | None, mask: Header | None) -> list[Fault]:
    if image is None or mask is None:
        return []
    text = f"{pair.image} has {size_text(image.size_HW)} pixels, its mask {size_text(mask.size_HW)}"
    swapped = image.size_HW == mask.size_HW[::-1] and image.size_HW != mask.size_HW
    if image.turned:
        state = ", as the image is shown" if swapped else ""
        return [Fault("turned", f"{text}{state}")]
    if swapped:
        return [Fault("swapped", text)]
    return [Fault("sizes", text)] if image.size_HW != mask.size_HW else []


def _format(header: Header | None) -> str:
    return "" if header is None else f"{header.format} {_MODES.get(header.mode, header.mode)}"


def _digest(image_3HW: Tensor) -> bytes:
    pixels = np.ascontiguousarray(image_3HW.numpy())
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()


def _colours(image_3HW: Tensor) -> Colours:
    counts_C256 = [np.bincount(channel.ravel(), minlength=256) for channel in image_3HW.numpy()]
    values = np.arange(256, dtype=np.int64)
    return Colours(
        int(counts_C256[0].sum()),
        tuple(int(counts @ values) for counts in counts_C256),
        tuple(int(counts @ values**2) for counts in counts_C256),
    )


def _present(labels_HW: npt.NDArray[np.uint8]) -> dict[int, int]:
    counts = pixel_counts(labels_HW)
    return {int(label): int(counts[label]) for label in counts.nonzero()[0]}
