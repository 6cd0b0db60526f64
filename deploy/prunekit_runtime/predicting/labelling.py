"""Pictures in, labels out: prepared, run in batches, restored to their own size; one bad picture stops no other.

N images of a batch, H W a picture's size, h w the network's size, K classes.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Optional

from prunekit_runtime.classes import MAX_CLASSES
from prunekit_runtime.errors import ContractError, ContractUsageError, PrunekitError
from prunekit_runtime.failures import sentence_of
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray, Preprocessing
from prunekit_runtime.running.picturing import Array, PictureModel, stacked
from prunekit_runtime.running.runner import Runner


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
    """K, of the logits; of a graph that gives labels, as its classes.json says, or up to the last one seen."""


@dataclasses.dataclass(frozen=True)
class Failed:
    """A picture that has no labels, and why."""

    item: Item
    reason: str


@dataclasses.dataclass(frozen=True)
class _Prepared:
    item: Item
    image_HW3: ByteArray
    inputs: Array


@dataclasses.dataclass(frozen=True)
class Labeller:
    """A model that labels pictures as its contract says."""

    runner: Runner
    contract: Preprocessing
    batch: int
    """Pictures a run."""
    classes: Optional[int] = None
    """How many the model has; None where that is not known before it has run."""

    @property
    def model(self) -> PictureModel:
        """The runner with its contract."""
        return PictureModel(self.runner, self.contract)

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
            if waiting and waiting[0].inputs.shape != prepared.inputs.shape:
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
                inputs = self.model.prepare(image_HW3)
        except Exception as error:
            return Failed(item, reason_of(error))
        return _Prepared(item, image_HW3, inputs)

    def _run(self, batch: list[_Prepared], stopwatch: Stopwatch) -> Iterator[Labelled | Failed]:
        try:
            with stopwatch.timing("network"):
                outputs = self.model.compute(stacked([one.inputs for one in batch], self.runner.input_shape[0]))
        except Exception as error:
            reason = reason_of(error)
            yield from (Failed(one.item, reason) for one in batch)
            return
        if self.runner.graph == "logits":
            self._check_classes(outputs.shape[1])
        for place, one in enumerate(batch):
            yield self._restored(one, outputs[place : place + 1], stopwatch)

    def _restored(self, one: _Prepared, output_1: Array, stopwatch: Stopwatch) -> Labelled | Failed:
        try:
            with stopwatch.timing("labels"):
                labels_HW = self.model.labels(output_1, *one.image_HW3.shape[:2])
        except Exception as error:
            return Failed(one.item, reason_of(error))
        last = int(labels_HW.max())
        if self.runner.graph == "logits":
            return Labelled(one.item, one.image_HW3, labels_HW, output_1.shape[1])
        self._check_classes(self.classes if self.classes is not None and last < self.classes else last + 1)
        return Labelled(one.item, one.image_HW3, labels_HW, self.classes or last + 1)

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
