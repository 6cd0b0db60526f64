"""Pictures in, labels out: prepared, run in batches, restored to their own size; one bad picture stops no other.

N images of a batch, H W a picture's size, h w the network's size, K classes.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Optional

import numpy as np

from prunekit_runtime.classes import MAX_CLASSES
from prunekit_runtime.errors import ContractError, ContractUsageError, PrunekitError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray, Preprocessing
from prunekit_runtime.running.runner import FloatArray, Runner, check_finite, check_images


@dataclasses.dataclass(frozen=True)
class Item:
    """A picture to be labelled: what its results are called, and how it is read."""

    stem: PurePath
    read: Callable[[], ByteArray]  # RGB, uint8 (H, W, 3)
    shown: str
    """What messages call it."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A picture with its labels, uint8 (H, W)."""

    item: Item
    image_HW3: ByteArray
    labels_HW: ByteArray
    classes: int
    """K, of the logits."""


@dataclasses.dataclass(frozen=True)
class Failed:
    """A picture that has no labels, and why."""

    item: Item
    reason: str


@dataclasses.dataclass(frozen=True)
class _Prepared:
    item: Item
    image_HW3: ByteArray
    images_13hw: FloatArray


@dataclasses.dataclass(frozen=True)
class Labeller:
    """A model that labels pictures as its contract says."""

    runner: Runner
    contract: Preprocessing
    batch: int
    """Pictures a run."""
    classes: Optional[int] = None
    """How many the model has; None where that is not known before it has run."""

    def label(self, items: Iterable[Item], stopwatch: Stopwatch) -> Iterator[Labelled | Failed]:
        """Yield what becomes of each item; those of one size are run together, in the order of the items.

        Raises:
            ContractError: the model has another number of classes than it says.
        """
        waiting: list[_Prepared] = []
        for item in items:
            prepared = self._prepared(item, stopwatch)
            if isinstance(prepared, Failed):
                yield prepared
                continue
            if waiting and waiting[0].images_13hw.shape != prepared.images_13hw.shape:
                yield from self._run(waiting, stopwatch)
                waiting = []
            waiting.append(prepared)
            if len(waiting) == self.batch:
                yield from self._run(waiting, stopwatch)
                waiting = []
        if waiting:
            yield from self._run(waiting, stopwatch)

    def _prepared(self, item: Item, stopwatch: Stopwatch) -> _Prepared | Failed:
        try:
            with stopwatch.timing("decoding"):
                image_HW3 = item.read()
            with stopwatch.timing("preparing"):
                images_13hw = self.contract.prepare(image_HW3)
                fixed = self.runner.input_shape[0]
                check_images(images_13hw, (None if fixed is None else 1, *self.runner.input_shape[1:]))
        except Exception as error:
            return Failed(item, reason_of(error))
        return _Prepared(item, image_HW3, images_13hw)

    def _run(self, batch: list[_Prepared], stopwatch: Stopwatch) -> Iterator[Labelled | Failed]:
        try:
            with stopwatch.timing("network"):
                logits_NKhw = self.runner.run(self._stacked(batch))
        except Exception as error:
            reason = reason_of(error)
            yield from (Failed(one.item, reason) for one in batch)
            return
        self._check_classes(logits_NKhw.shape[1])
        for one, logits_Khw in zip(batch, logits_NKhw, strict=False):
            yield self._restored(one, logits_Khw[None], stopwatch)

    def _stacked(self, batch: list[_Prepared]) -> FloatArray:
        """Return the batch; a model of a fixed number of images gets the last one again where there are too few."""
        fixed = self.runner.input_shape[0]
        missing = 0 if fixed is None else fixed - len(batch)
        return np.concatenate([one.images_13hw for one in batch] + [batch[-1].images_13hw] * missing)

    def _restored(self, one: _Prepared, logits_1Khw: FloatArray, stopwatch: Stopwatch) -> Labelled | Failed:
        try:
            with stopwatch.timing("labels"):
                check_finite(logits_1Khw, self.runner.name)
                height, width = one.image_HW3.shape[:2]
                labels_HW = self.contract.restore_labels(logits_1Khw, height, width)
        except Exception as error:
            return Failed(one.item, reason_of(error))
        return Labelled(one.item, one.image_HW3, labels_HW, logits_1Khw.shape[1])

    def _check_classes(self, got: int) -> None:
        if got > MAX_CLASSES or (self.classes is not None and got != self.classes):
            expected = f"at most {MAX_CLASSES}" if self.classes is None else str(self.classes)
            raise ContractError(
                f"{self.runner.name} gives {got} classes, and {expected} are expected. Does classes.json belong to "
                "this model? Export it again."
            )


def batch_size(runner: Runner, asked: Optional[int]) -> int:
    """Return how many pictures are run at once: what was asked for, what the model takes, or 1.

    Raises:
        ContractError: the model takes another number.
    """
    fixed = runner.input_shape[0]
    if asked is not None and fixed is not None and asked != fixed:
        raise ContractUsageError(
            f"The model takes {fixed} images at once, got --batch-size {asked}. Leave it out, or export with --dynamic."
        )
    return asked or fixed or 1


def told(shown: str, reason: str) -> str:
    """Return the reason, after the picture's name where it does not name it."""
    return reason if shown in reason else f"{shown}: {reason}"


def reason_of(error: Exception) -> str:
    """Return what a user reads of an error that a picture causes; a bug of ours is raised on."""
    reason = str(error) if isinstance(error, PrunekitError) else sentence_of(error)
    if reason is None:
        raise error
    return reason
