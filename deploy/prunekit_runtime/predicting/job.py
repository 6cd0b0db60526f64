"""A whole prediction: label items, hand the labels to whoever writes them, count pixels and failures, report."""

import dataclasses
import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from prunekit_runtime.classes import MAX_CLASSES, Classes, numbered
from prunekit_runtime.errors import PictureUsageError
from prunekit_runtime.near import did_you_mean
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.predicting.drawing import KINDS, Style, encode
from prunekit_runtime.predicting.labelling import Failed, Item, Labelled, Labeller, reason_of
from prunekit_runtime.predicting.naming import with_suffix
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.spelling import spelled

DEFAULT_KINDS = ("mask", "overlay")
# What one name can cause; anything else, such as a full disk, would befall all that follow.
_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR)
PixelCounts = npt.NDArray[np.int64]


@dataclasses.dataclass
class Tally:
    """What has become of the pictures so far."""

    written: int = 0
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Name and reason of each."""
    classes: int = 0
    """K, once the model has run."""
    pixels: Any = dataclasses.field(default_factory=lambda: np.zeros(MAX_CLASSES + 1, dtype=np.int64))
    """How many each label has."""

    @property
    def done(self) -> int:
        """Pictures that are over, whatever became of them."""
        return self.written + len(self.failed)

    def count(self, labelled: Labelled) -> None:
        """Add a picture that was written."""
        self.add(pixels_of(labelled.labels_HW), labelled.classes)

    def add(self, pixels: PixelCounts, classes: int) -> None:
        """Add a picture that was written, of whose labels are so many pixels each."""
        self.written += 1
        self.classes = classes
        self.pixels += pixels


def pixels_of(labels_HW: ByteArray) -> PixelCounts:
    """Return how many pixels each label has."""
    return np.bincount(labels_HW.ravel(), minlength=MAX_CLASSES + 1)


@dataclasses.dataclass(frozen=True)
class PredictReport:
    """What was written, what was not and why, and how long it took."""

    model: str
    ran_on: str
    out_dir: str
    kinds: tuple[str, ...]
    batch_size: int
    written: int
    """Pictures, or frames of a video."""
    failed: tuple[dict[str, str], ...]
    """Name and reason of each."""
    classes: tuple[str, ...]
    pixels: tuple[int, ...]
    """By class, of all pictures that were written."""
    seconds: dict[str, float]
    """By stage, of all pictures; labels is from logits to labels, writing holds drawing and compressing too."""
    total_s: float
    """From the first picture to the last, what belongs to no stage included; without loading the model."""

    @property
    def pictures_per_s(self) -> float:
        """Pictures that were written, by the second."""
        return self.written / self.total_s if self.total_s > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**dataclasses.asdict(self), "pictures_per_s": self.pictures_per_s}


def chosen_kinds(texts: Sequence[str]) -> tuple[str, ...]:
    """Read the kinds that were asked for, one a text or several between commas; none are the mask and the overlay.

    Raises:
        PictureError: one is unknown.
    """
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    unknown = next((word for word in words if word not in KINDS), None)
    if unknown is not None:
        raise PictureUsageError(
            f"{spelled('--as', 'kinds')} takes {', '.join(KINDS)}, one or several; got {unknown!r}."
            f"{did_you_mean(unknown, KINDS)}"
        )
    return tuple(dict.fromkeys(words)) or DEFAULT_KINDS


def target(out_dir: Path, kind: str, stem: PurePath, suffix: str = ".png") -> Path:
    """Return where one kind of result of one picture goes: each kind has a folder of its own."""
    return out_dir / kind / with_suffix(stem, suffix)


def run_items(
    labeller: Labeller,
    items: Iterable[Item],
    write: Callable[[Labelled], None],
    *,
    tally: Tally,
    stopwatch: Stopwatch,
    on_item: Optional[Callable[[Tally], None]] = None,
) -> None:
    """Label all items and write what can be labelled; `tally` is up to date at any instant.

    Raises:
        OSError: nothing more can be written, as on a full disk.
        ContractError: the model has another number of classes than it says.
    """
    for outcome in labeller.label(items, stopwatch):
        reason = outcome.reason if isinstance(outcome, Failed) else try_to_write(outcome, write, stopwatch)
        if isinstance(outcome, Labelled) and reason is None:
            tally.count(outcome)
        else:
            tally.failed.append((outcome.item.shown, str(reason)))
        if on_item is not None:
            on_item(tally)


def try_to_write(labelled: Labelled, write: Callable[[Labelled], None], stopwatch: Stopwatch) -> Optional[str]:
    """Write a picture's results; return why that cannot be done, or None.

    Raises:
        OSError: nothing more can be written, as on a full disk.
    """
    try:
        with stopwatch.timing("writing"):
            write(labelled)
    except OSError as error:
        if error.errno not in _OF_ONE_NAME:
            raise
        return reason_of(error)
    return None


def write_pictures(out_dir: Path, kinds: tuple[str, ...], style: Style) -> Callable[[Labelled], None]:
    """Return what writes each kind of a labelled picture as a PNG under its stem."""

    def write(labelled: Labelled) -> None:
        for kind in kinds:
            content = encode(kind, labelled.image_HW3, labelled.labels_HW, style)
            write_whole(target(out_dir, kind, labelled.item.stem), content)

    return write


def report(
    model: Path,
    labeller: Labeller,
    classes: Optional[Classes],
    out_dir: Path,
    kinds: tuple[str, ...],
    tally: Tally,
    stopwatch: Stopwatch,
) -> PredictReport:
    """Return the report of a prediction that is over."""
    known = classes or numbered(tally.classes)
    return PredictReport(
        model=str(model),
        ran_on=labeller.runner.name,
        out_dir=str(out_dir),
        kinds=kinds,
        batch_size=labeller.batch,
        written=tally.written,
        failed=tuple({"picture": name, "reason": reason} for name, reason in tally.failed),
        classes=known.names,
        pixels=tuple(int(count) for count in tally.pixels[: len(known)]),
        seconds=dict(stopwatch.seconds),
        total_s=stopwatch.total_s(),
    )
