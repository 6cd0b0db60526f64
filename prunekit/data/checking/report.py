"""What a data set holds, in numbers, and what was found wrong with it.

Shapes: H height, W width.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from prunekit.data.checking.seen import Seen
from prunekit.data.dataset import ClassMap, Split, size_text
from prunekit.data.labels.counts import LabelCounts
from prunekit.data.labels.masks import Value

MAX_UNKNOWN: Final = 4096
"""Different values that are no class which a report keeps; a photo as a mask has millions."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or worth a look."""

    level: Literal["mend", "look"]
    """Mend: training refuses it, or its figures would be wrong. Look: it may well be meant."""
    kind: str
    """A name for programs, such as damaged_images."""
    split: Split | None
    """None where it is about all of them."""
    text: str
    """What it is and what to do."""
    files: tuple[str, ...] = ()
    """All that are concerned."""


@dataclass(frozen=True)
class UnknownValue:
    """A number or colour in masks that is no class."""

    value: Value
    pixels: int
    masks: int
    example: str


@dataclass(frozen=True)
class SplitReport:
    """What one split holds; of what can be read."""

    split: Split
    samples: int
    """Pairs of image and mask."""
    images_alone: int
    masks_alone: int
    unreadable: int
    """Pairs of which a file cannot be read."""
    image_sizes: Mapping[str, int]
    """Images by size, height first as in --size, the most frequent first."""
    mask_sizes: Mapping[str, int]
    image_formats: Mapping[str, int]
    mask_formats: Mapping[str, int]
    labels: LabelCounts
    images_by_class: tuple[int, ...]
    """Images in which each class has a pixel."""
    mean: tuple[float, ...]
    """Of red, green and blue, 0 to 255; empty where no image can be read."""
    std: tuple[float, ...]
    unknown: tuple[UnknownValue, ...]
    """The most frequent first."""


@dataclass(frozen=True)
class DataReport:
    """What a data set holds, and what is wrong with it."""

    name: str
    root: str
    classes: tuple[str, ...]
    size: str
    """Of the network's input, width first."""
    mean: tuple[float, ...]
    """By which the recipe normalises: of red, green and blue, 0 to 255."""
    std: tuple[float, ...]
    splits: tuple[SplitReport, ...]
    findings: tuple[Finding, ...]

    @property
    def to_mend(self) -> tuple[Finding, ...]:
        """What must be mended."""
        return tuple(found for found in self.findings if found.level == "mend")

    @property
    def to_look_at(self) -> tuple[Finding, ...]:
        """What may be meant."""
        return tuple(found for found in self.findings if found.level == "look")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = dataclasses.asdict(self)
        for split, of in zip(values["splits"], self.splits, strict=True):
            split["labels"] |= {"shares": list(of.labels.shares), "ignored_share": of.labels.ignored_share}
        return {"format": 1, "fine": not self.to_mend, **values}


def split_report(
    split: Split, seen: Sequence[Seen], classes: ClassMap, images_alone: int = 0, masks_alone: int = 0
) -> SplitReport:
    """Add up what was seen of a split's samples."""
    counted = [one.labels for one in seen if one.labels is not None]
    pixels = Counter[int]()
    for labels in counted:
        pixels.update(labels)
    mean, std = _moments(seen)
    ignored = pixels[classes.ignore_index]
    return SplitReport(
        split,
        len(seen),
        images_alone,
        masks_alone,
        sum(any(fault.kind in ("image", "mask", "sample") for fault in one.faults) for one in seen),
        _by_count(size_text(one.image_HW) for one in seen if one.image_HW),
        _by_count(size_text(one.mask_HW) for one in seen if one.mask_HW),
        _by_count(one.image_format for one in seen if one.image_format),
        _by_count(one.mask_format for one in seen if one.mask_format),
        LabelCounts(len(seen), len(counted), tuple(pixels[label] for label in range(len(classes))), ignored),
        tuple(sum(label in labels for labels in counted) for label in range(len(classes))),
        mean,
        std,
        _unknown(seen),
    )


def _by_count(texts: Any) -> dict[str, int]:
    return dict(Counter[str](texts).most_common())


def _moments(seen: Sequence[Seen]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    read = [one.colours for one in seen if one.colours is not None]
    pixels = sum(colours.pixels for colours in read)
    if not pixels:
        return (), ()
    means = [sum(colours.sums[channel] for colours in read) / pixels for channel in range(3)]
    squares = [sum(colours.squares[channel] for colours in read) / pixels for channel in range(3)]
    variances = (max(0.0, square - mean**2) for square, mean in zip(squares, means, strict=True))
    return tuple(means), tuple(variance**0.5 for variance in variances)


def _unknown(seen: Sequence[Seen]) -> tuple[UnknownValue, ...]:
    found: dict[Value, UnknownValue] = {}
    for one in seen:
        for value, pixels in one.unknown.items():
            if value in found:
                old = found[value]
                found[value] = UnknownValue(value, old.pixels + pixels, old.masks + 1, old.example)
            elif len(found) < MAX_UNKNOWN:
                found[value] = UnknownValue(value, pixels, 1, one.mask or one.name)
    return tuple(sorted(found.values(), key=lambda value: -value.pixels))
