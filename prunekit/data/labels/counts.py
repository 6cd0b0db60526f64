"""How often each class occurs in a split, and what about that looks as if labels were lost on the way.

Masks whose background is 0 and whose object is 255, a class list in another order, an ignore index that is a class:
all of them train without an error, and all of them show in these counts. Shapes: H height, W width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from prunekit.data.dataset import ClassMap, SegmentationDataset, Split
from prunekit.errors import DataError
from prunekit.progress import counted
from prunekit.recipe import DataConfig

SAMPLE: Final = 100
"""Images counted of a split that does not know its counts; spread over it, the same ones each time."""
_SPLIT_NAMES: Final[dict[Split, str]] = {"train": "training", "val": "validation", "test": "test"}
_MOSTLY: Final = 0.5
_LISTED: Final = 8


@dataclass(frozen=True)
class LabelCounts:
    """Pixels by class of a split."""

    images: int
    """In the split."""
    counted: int
    """Images whose labels were counted."""
    pixels: tuple[int, ...]
    """Of each class."""
    ignored: int
    """Pixels that do not count."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of all pixels that each class has, ignored ones included in the whole."""
        return tuple(number / self._total for number in self.pixels)

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that do not count."""
        return self.ignored / self._total

    @property
    def absent(self) -> tuple[int, ...]:
        """Classes without a pixel."""
        return tuple(label for label, number in enumerate(self.pixels) if number == 0)

    @property
    def _total(self) -> int:
        return max(1, sum(self.pixels) + self.ignored)


@dataclass(frozen=True)
class LabelReport:
    """What a training starts from: the counts of both splits."""

    classes: tuple[str, ...]
    train: LabelCounts
    val: LabelCounts

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values, for `labels.json`."""
        return {"format": 1, "classes": list(self.classes), "train": _json(self.train), "val": _json(self.val)}


@runtime_checkable
class KnowsCounts(Protocol):
    """A data set that counted its labels while it was opened."""

    @property
    def label_counts(self) -> LabelCounts:
        """The counts of the whole split."""
        ...


def count_labels(dataset: SegmentationDataset) -> LabelCounts:
    """Return the label counts of a data set: its own, or those of `SAMPLE` images, looked at once.

    Raises:
        DataError: a sample cannot be read.
    """
    if isinstance(dataset, KnowsCounts):
        return dataset.label_counts
    if dataset not in _COUNTED:
        taken = min(SAMPLE, len(dataset))
        places = [place * len(dataset) // taken for place in range(taken)]
        labels = (dataset[index].labels_HW.numpy() for index in counted(places, "Counting labels", taken))
        _COUNTED[dataset] = summed(map(pixel_counts, labels), len(dataset), dataset.classes)
    return _COUNTED[dataset]


def pixel_counts(labels_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return how many pixels hold each number from 0 to 255."""
    return np.bincount(labels_HW.ravel(), minlength=256)


def summed(counts: Iterable[npt.NDArray[np.int64]], images: int, classes: ClassMap) -> LabelCounts:
    """Add up the counts of images of a split that holds `images` of them."""
    total, counted = np.zeros(256, dtype=np.int64), 0
    for one in counts:
        total += one
        counted += 1
    ignored = int(total[classes.ignore_index])
    return LabelCounts(images, counted, tuple(map(int, total[: len(classes)])), ignored)


def label_report(train_set: SegmentationDataset, val_set: SegmentationDataset) -> LabelReport:
    """Count both splits of a training."""
    return LabelReport(train_set.classes.names, count_labels(train_set), count_labels(val_set))


def check_labels(dataset: SegmentationDataset, split: Split, config: DataConfig, *, training: bool = False) -> None:
    """Refuse a split whose counts look as if labels were lost; generated scenes are right as they are.

    Args:
        dataset: the split, open.
        split: which it is.
        config: the data set; its `allow_...` settings accept what is found.
        training: the network learns from this split, so each class must occur.

    Raises:
        DataError: 255 is all that masks hold beside the first class, over half of the pixels are ignored, or a class
            to be learnt has no pixel.
    """
    if config.name == "shapes":
        return
    for fault in label_faults(count_labels(dataset), dataset.classes, split, config, training=training):
        raise DataError(fault)


def label_faults(
    counts: LabelCounts, classes: ClassMap, split: Split, config: DataConfig, *, training: bool = False
) -> Iterator[str]:
    """Yield a sentence for each thing for which `check_labels` refuses a split with these counts."""
    if not config.allow_absent_classes:
        for found in (_only_ignored(counts, classes), _absent(counts, classes) if training else None):
            if found is not None:
                yield f"The {_SPLIT_NAMES[split]} split ({_extent(counts)}): {found}"
    if counts.ignored_share > _MOSTLY and not config.allow_mostly_ignored:
        yield (
            f"The {_SPLIT_NAMES[split]} split ({_extent(counts)}): {counts.ignored_share:.1%} of all pixels are marked "
            "as ignored. Correct ignore_index and ignore_colour in the class list or the masks. To train with "
            "them as they are: --set data.allow_mostly_ignored=true"
        )


def _extent(counts: LabelCounts) -> str:
    return f"{counts.counted} of {counts.images} masks counted"


def _only_ignored(counts: LabelCounts, classes: ClassMap) -> str | None:
    if not counts.ignored or not counts.pixels[0] or any(counts.pixels[1:]):
        return None
    lost = ", ".join(map(repr, classes.names[1 : 1 + _LISTED])) or "a second class"
    return (
        f"masks hold {classes.names[0]!r} and ignored pixels alone (0 and 255, as a rule), so no pixel is left of "
        f"{lost}. Where 255 is the second class of the list, say so: --set data.mask_values=0,255 . Where these pixels "
        "are indeed not to count: --set data.allow_absent_classes=true"
    )


def _absent(counts: LabelCounts, classes: ClassMap) -> str | None:
    if not counts.absent or counts.counted < counts.images:  # a sample proves no absence
        return None
    names = ", ".join(repr(classes.names[label]) for label in counts.absent[:_LISTED])
    rest = f" and {len(counts.absent) - _LISTED} more" if len(counts.absent) > _LISTED else ""
    return (
        f"no pixel is {names}{rest}, so that cannot be learnt. Check that the class list has the order of the masks' "
        "numbers and the masks' colours, or remove the class. To train without: --set data.allow_absent_classes=true"
    )


def _json(counts: LabelCounts) -> dict[str, Any]:
    return {
        "images": counts.images,
        "counted": counts.counted,
        "pixels": list(counts.pixels),
        "shares": list(counts.shares),
        "ignored": counts.ignored,
        "ignored_share": counts.ignored_share,
        "absent_classes": list(counts.absent),
    }


# By data set, so that the memory goes when the data set goes.
_COUNTED: WeakKeyDictionary[SegmentationDataset, LabelCounts] = WeakKeyDictionary()
