"""Read, compute, write, all at the same time: the model never waits for a file while there is work for it.

    a thread that finds items -> threads that decode and prepare -> the caller's thread, which runs the model
    -> threads that restore labels, draw, compress and write

What lies between two stages is bounded, so a slow stage holds up those before it and memory stays flat. Outcomes come
in the order of the items. H, W a picture's size.
"""

import contextlib
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, Union

from prunekit_runtime.errors import ContractError
from prunekit_runtime.predicting.job import PixelCounts, Tally, pixels_of, try_to_write
from prunekit_runtime.predicting.labelling import Failed, Item, Labelled, reason_of
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.streaming.channel import Channel

MAX_THREADS = 64
_USUAL_THREADS = 4
_PATIENCE_S = 10.0
_TURN_S = 0.0005
Write = Callable[[Labelled], None]


class Model(Protocol):
    """What is asked of a model: `running.picturing.PictureModel` is one."""

    @property
    def name(self) -> str:
        """What really runs."""
        ...

    def prepare(self, picture_HW3: ByteArray, /) -> Any:
        """Return the model's input for a picture."""
        ...

    def compute(self, inputs: Any, /) -> Any:
        """Run the model."""
        ...

    def labels(self, outputs: Any, height: int, width: int, /) -> ByteArray:
        """Return labels, uint8 (H, W), at the picture's size."""
        ...


@dataclasses.dataclass(frozen=True)
class _Prepared:
    item: Item
    picture_HW3: ByteArray
    inputs: Any


@dataclasses.dataclass(frozen=True)
class _Done:
    item: Item
    pixels: PixelCounts


_Ready = Union[_Prepared, Failed]
_Outcome = Union[_Done, Failed, BaseException]


def usual_threads() -> int:
    """Return how many threads read, and as many write: one a core, at most four."""
    return min(_USUAL_THREADS, len(os.sched_getaffinity(0)))


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A model with threads beside it that read for it and write after it."""

    model: Model
    """Runs in the thread that calls `run`."""
    classes: int
    """How many the model knows; a label above is an error."""
    readers: int
    writers: int
    """One keeps the calls of `write` in order."""
    live: bool = False
    """Items are of now and must not wait: nothing is read ahead."""

    def run(
        self,
        items: Iterable[Item],
        write: Write,
        *,
        tally: Tally,
        stopwatch: Stopwatch,
        on_item: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        """Label and write all items; `tally` is up to date at any instant, and what is counted there is written.

        Whatever ends this, a signal too, what is being written is written whole, and nothing more is begun.

        Raises:
            OSError: nothing more can be written, as on a full disk.
            ContractError: the model gives labels of more classes than there are.
        """
        work = _Work(self.model, self.classes, write, stopwatch)
        readers, writers = ThreadPoolExecutor(self.readers, "read"), ThreadPoolExecutor(self.writers, "write")
        channel: Channel[Future[_Ready]] = Channel(1 if self.live else self.readers + 1)
        feeder = threading.Thread(target=_feed, args=(items, readers, work.prepare, channel), name="find", daemon=True)
        ends = _Ends(tally, self.classes, on_item)
        try:
            feeder.start()
            with _quick_turns():
                for future in channel:
                    work.compute(future.result(), writers, ends)
                    ends.count(most=self.writers + 1)
                ends.count(most=0)
        finally:
            channel.close()
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=True, cancel_futures=True)
            feeder.join(_PATIENCE_S)  # it may hold a video that is closed next
            ends.count_there()


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is done to an item, stage by stage; an error that it causes becomes its outcome."""

    model: Model
    classes: int
    write: Write
    stopwatch: Stopwatch

    def prepare(self, item: Item) -> "_Ready":
        """Read a picture, and make the model's input of it."""
        try:
            with self.stopwatch.timing("decoding"):
                picture_HW3 = item.read()
            with self.stopwatch.timing("preparing"):
                return _Prepared(item, picture_HW3, self.model.prepare(picture_HW3))
        except Exception as error:
            return Failed(item, reason_of(error))

    def compute(self, ready_one: "_Ready", writers: ThreadPoolExecutor, ends: "_Ends") -> None:
        """Run the model, and hand the rest to a thread that writes."""
        number = ends.expect()
        if isinstance(ready_one, Failed):
            ends.put(number, ready_one)
            return
        try:
            with self.stopwatch.timing("network"):
                outputs = self.model.compute(ready_one.inputs)
        except Exception as error:
            ends.put(number, Failed(ready_one.item, reason_of(error)))
            return
        writers.submit(self._finish, ready_one, outputs, number, ends)

    def _finish(self, prepared: "_Prepared", outputs: Any, number: int, ends: "_Ends") -> None:
        try:
            outcome: _Outcome = self.finish(prepared.item, prepared.picture_HW3, outputs)
        except BaseException as error:
            outcome = error
        ends.put(number, outcome)

    def finish(self, item: Item, picture_HW3: ByteArray, outputs: Any) -> "_Done | Failed":
        """Make labels of what the model said, and write them."""
        height, width = picture_HW3.shape[:2]
        try:
            with self.stopwatch.timing("labels"):
                labels_HW = self.model.labels(outputs, height, width)
                pixels = pixels_of(labels_HW)
        except Exception as error:
            return Failed(item, reason_of(error))
        check_labels(self.model.name, pixels, self.classes)
        reason = try_to_write(Labelled(item, picture_HW3, labels_HW, self.classes), self.write, self.stopwatch)
        return _Done(item, pixels) if reason is None else Failed(item, reason)


class _Ends:
    """Outcomes, which threads put in any order, counted in the order of the items.

    How many are counted is what the tally says, so that a signal between two steps neither loses nor repeats one.
    """

    def __init__(self, tally: Tally, classes: int, on_item: Callable[[Tally], None]) -> None:
        self._tally, self._classes, self._on_item = tally, classes, on_item
        self._before, self._expected = tally.done, 0
        self._outcomes: dict[int, _Outcome] = {}
        self._changed = threading.Condition()

    def expect(self) -> int:
        """Return the number of the next item's outcome."""
        self._expected += 1
        return self._expected - 1

    def put(self, number: int, outcome: "_Outcome") -> None:
        """Take an outcome, or the error that ends the run."""
        with self._changed:
            self._outcomes[number] = outcome
            self._changed.notify_all()

    def count(self, *, most: int) -> None:
        """Count those that are there, and wait while there are more than `most` to come."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next in self._outcomes or self._expected - self._next <= most)
                if self._next not in self._outcomes:
                    return
            self._count()
            self._on_item(self._tally)

    def count_there(self) -> None:
        """Count what was written though the run ended early."""
        while isinstance(self._outcomes.get(self._next), (_Done, Failed)):
            self._count()

    @property
    def _next(self) -> int:
        return self._tally.done - self._before

    def _count(self) -> None:
        number = self._next
        outcome = self._outcomes[number]
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, _Done):
            self._tally.add(outcome.pixels, self._classes)
        else:
            self._tally.failed.append((outcome.item.shown, outcome.reason))
        self._outcomes.pop(number)


@contextlib.contextmanager
def _quick_turns() -> Generator[None, None, None]:
    """Let the thread of the model have the interpreter sooner: it waits 5 ms for the others else, each time."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


def check_labels(name: str, pixels: PixelCounts, classes: int) -> None:
    """Refuse labels of classes that the model is not said to have.

    Raises:
        ContractError: there are some.
    """
    if pixels[classes:].any():
        raise ContractError(
            f"{name} gives labels above {classes - 1}, and there are {classes} classes. "
            "Does classes.json belong to this model? Write the bundle again."
        )


def _feed(
    items: Iterable[Item],
    readers: ThreadPoolExecutor,
    prepare: Callable[[Item], _Ready],
    channel: "Channel[Future[_Ready]]",
) -> None:
    try:
        for item in items:
            if not channel.put(readers.submit(prepare, item)):
                return
    except BaseException as error:
        channel.end(error)
    else:
        channel.end()
