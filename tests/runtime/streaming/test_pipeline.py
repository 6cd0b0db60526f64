"""Stages overlap, outcomes keep the order, what waits is bounded, and an early end leaves whole files only."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.errors import ContractError, PictureError, RunnerError
from prunekit_runtime.predicting.drawing import Style
from prunekit_runtime.predicting.job import Tally, write_pictures
from prunekit_runtime.predicting.labelling import Item, Labelled
from prunekit_runtime.predicting.stopwatch import Stopwatch
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.streaming import Pipeline
from prunekit_runtime.streaming.channel import Channel

PATIENCE_S = 20.0


class Half:
    """Labels bright pixels 1 and others 0; `before` is called in each computation."""

    name = "half"

    def __init__(self, before: Callable[[ByteArray], None] = lambda _: None) -> None:
        self.before = before

    def prepare(self, picture_HW3: ByteArray, /) -> Any:
        return picture_HW3[None]

    def compute(self, inputs: Any, /) -> Any:
        self.before(inputs)
        return inputs[..., 0] // 128

    def labels(self, outputs: Any, height: int, width: int, /) -> ByteArray:
        assert outputs.shape == (1, height, width)
        return outputs[0]


def item(number: int, read: Callable[[], ByteArray] | None = None) -> Item:
    picture = np.full((4, 6, 3), number, dtype=np.uint8)
    return Item(PurePath(f"{number:03d}"), read or (lambda: picture), str(number))


def run(
    items: Any, write: Callable[[Labelled], None], model: Any = None, *, threads: int = 2, classes: int = 2, **more: Any
) -> Tally:
    tally = more.pop("tally", Tally())
    pipeline = Pipeline(model or Half(), classes, threads, threads)
    pipeline.run(items, write, tally=tally, stopwatch=Stopwatch(), **more)
    return tally


def ignore(_: Labelled) -> None:
    pass


def test_outcomes_come_in_order_though_some_take_longer() -> None:
    late, seen = threading.Event(), []

    def write(labelled: Labelled) -> None:
        if labelled.item.shown == "0":  # is written last
            assert late.wait(PATIENCE_S)
        late.set() if labelled.item.shown == "1" else None

    def refuse() -> ByteArray:
        raise PictureError("it is no picture")

    items = [item(0), item(1), item(2, refuse), item(3)]
    tally = run(items, write, on_item=lambda tally: seen.append((tally.written, len(tally.failed))))
    assert seen == [(1, 0), (2, 0), (2, 1), (3, 1)]
    assert tally.failed == [("2", "it is no picture")]
    assert tally.pixels[:2].tolist() == [3 * 24, 0]


def test_reading_computing_and_writing_happen_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=PATIENCE_S)
    met: list[str] = []

    def meet(who: str) -> None:
        together.wait()
        met.append(who)

    def read() -> ByteArray:
        meet("read")
        return np.full((4, 6, 3), 2, dtype=np.uint8)

    def compute(inputs: ByteArray) -> None:
        if inputs[0, 0, 0, 0] == 1:
            meet("compute")

    def write(labelled: Labelled) -> None:
        if labelled.item.shown == "0":
            meet("write")

    tally = run([item(0), item(1), item(2, read)], write, Half(compute))
    assert sorted(met) == ["compute", "read", "write"]
    assert tally.written == 3


def test_a_slow_writer_holds_up_the_readers() -> None:
    go_on, read_so_far = threading.Event(), []
    most: list[int] = []

    def read() -> ByteArray:
        read_so_far.append(1)
        return np.zeros((4, 6, 3), dtype=np.uint8)

    def write(labelled: Labelled) -> None:
        if labelled.item.shown == "0":
            go_on.wait(1.0)  # long enough for readers that nothing holds up to read all
            most.append(len(read_so_far))

    tally = run((item(number, read) for number in range(200)), write, threads=1)
    assert tally.written == 200
    assert most[0] < 20


def test_a_model_that_fails_on_one_picture_loses_no_other() -> None:
    def fail(inputs: ByteArray) -> None:
        if inputs[0, 0, 0, 0] == 1:
            raise RunnerError("the model takes other sizes")

    tally = run([item(number) for number in range(4)], ignore, Half(fail))
    assert tally.written == 3
    assert tally.failed == [("1", "the model takes other sizes")]


def test_a_bug_of_ours_is_raised_and_no_picture_is_blamed() -> None:
    def wrong(_: ByteArray) -> None:
        raise AttributeError("no such name")

    with pytest.raises(AttributeError):
        run([item(0)], ignore, Half(wrong))


def test_a_full_disk_ends_the_run() -> None:
    def write(labelled: Labelled) -> None:
        if labelled.item.shown == "3":
            raise OSError(errno.ENOSPC, "no space left")

    tally = Tally()
    with pytest.raises(OSError, match="no space left"):
        run((item(number) for number in range(10_000)), write, tally=tally)
    assert tally.written < 100


def test_an_error_while_looking_for_items_comes_after_those_that_were_found() -> None:
    def items() -> Any:
        yield item(0)
        raise PictureError("the camera is gone")

    tally = Tally()
    with pytest.raises(PictureError, match="camera is gone"):
        run(items(), ignore, tally=tally)
    assert tally.written == 1


def test_labels_of_classes_that_are_not_there_are_an_error() -> None:
    with pytest.raises(ContractError, match=r"labels above 0.*Write the bundle again"):
        run([item(200)], ignore, classes=1)


def test_an_interruption_leaves_whole_files_and_counts_them(tmp_path: Path) -> None:
    write = write_pictures(tmp_path, ("mask", "overlay"), Style(((0, 0, 0), (255, 0, 0))))
    tally = Tally()

    def interrupt(inputs: ByteArray) -> None:
        if inputs[0, 0, 0, 0] == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run((item(number) for number in range(100)), write, Half(interrupt), tally=tally)
    masks = sorted(path.name for path in (tmp_path / "mask").iterdir())
    assert masks == [f"{number:03d}.png" for number in range(tally.written)]
    assert sorted(path.name for path in (tmp_path / "overlay").iterdir()) == masks
    assert 10 <= tally.written <= 20
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("find", "write"))]


def test_a_closed_channel_lets_its_writer_go() -> None:
    channel: Channel[int] = Channel(1)
    said: list[bool] = []
    writer = threading.Thread(target=lambda: said.extend(channel.put(number) for number in range(3)))
    writer.start()
    assert next(iter(channel)) == 0
    channel.close()
    writer.join(PATIENCE_S)
    assert said[0] is True
    assert said[-1] is False
