"""Read, compute, write, all at the same time: the model never waits for a file while there is work for it.

    a thread that finds items -> threads that decode and prepare -> the caller's thread, which runs the model
    -> threads that restore labels, draw, compress and write

What lies between two stages is bounded, so a slow stage holds up those before it and memory stays flat. Outcomes come
in the order of the items. H, W a picture's size.
"""

import collections
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
_Outcome = Union[_Done, Failed]


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
                    ends.add(work.computed(future.result(), writers))
                    ends.count(most=self.writers + 1)
                ends.count(most=0)
        finally:
            channel.close()
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=True, cancel_futures=True)
            feeder.join(_PATIENCE_S)  # it may hold a video that is closed next
            ends.count_written()


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

    def computed(self, ready_one: "_Ready", writers: ThreadPoolExecutor) -> "Future[_Outcome]":
        """Run the model, and hand the rest to a thread that writes."""
        if isinstance(ready_one, Failed):
            return _known(ready_one)
        try:
            with self.stopwatch.timing("network"):
                outputs = self.model.compute(ready_one.inputs)
        except Exception as error:
            return _known(Failed(ready_one.item, reason_of(error)))
        return writers.submit(self.finish, ready_one.item, ready_one.picture_HW3, outputs)

    def finish(self, item: Item, picture_HW3: ByteArray, outputs: Any) -> "_Outcome":
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
    """Outcomes in the order of the items, those that are still to come included."""

    def __init__(self, tally: Tally, classes: int, on_item: Callable[[Tally], None]) -> None:
        self._tally, self._classes, self._on_item = tally, classes, on_item
        self._waiting: collections.deque[Future[_Outcome]] = collections.deque()

    def add(self, outcome: "Future[_Outcome]") -> None:
        self._waiting.append(outcome)

    def count(self, *, most: int) -> None:
        """Count those that are there, and wait while there are more than `most`."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self._count(self._waiting.popleft().result())
            self._on_item(self._tally)

    def count_written(self) -> None:
        """Count what was written though the run ended early."""
        for future in self._waiting:
            if not future.cancelled() and future.exception() is None:
                self._count(future.result())

    def _count(self, outcome: "_Outcome") -> None:
        if isinstance(outcome, _Done):
            self._tally.add(outcome.pixels, self._classes)
        else:
            self._tally.failed.append((outcome.item.shown, outcome.reason))


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


def _known(outcome: _Outcome) -> "Future[_Outcome]":
    future: Future[_Outcome] = Future()
    future.set_result(outcome)
    return future
