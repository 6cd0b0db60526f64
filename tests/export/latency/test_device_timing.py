"""Timing on a device: the same table as here through a pipe, and connections that are lost at any moment."""

import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from torch import nn

from prunekit_export.errors import ExportError
from prunekit_export.latency.cache import LatencyCache
from prunekit_export.latency.device_timing import DeviceStopwatch
from prunekit_export.latency.layer_timing import OrtTimer
from prunekit_export.latency.table import measure_latency_table

COMMAND = [sys.executable, "-m", "prunekit_runtime", "time-layers", "--backend", "ort"]


class Pipe:
    """`time-layers` in a process of its own, which dies after so many answers where it is told to."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.requests = cast("BinaryIO", self.process.stdin)
        self._answers = cast("BinaryIO", self.process.stdout)
        self._left = dies_after
        self.answers = cast("BinaryIO", self)

    def readline(self, most: int) -> bytes:
        if self._left is not None:
            if self._left == 0:
                # An answer that came before the kill is lost as well: else how many arrive is a matter of speed.
                self.process.kill()
                return b""
            self._left -= 1
        return self._answers.readline(most)

    def read(self, count: int) -> bytes:
        return self._answers.read(count)

    def close(self) -> str:
        self.process.kill()
        self.process.communicate()
        return ""


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


def test_a_table_is_measured_through_a_pipe_and_names_the_device(network: nn.Module, tmp_path: Path) -> None:
    with DeviceStopwatch(Pipe, "device") as stopwatch:
        timer = OrtTimer(1, stopwatch=stopwatch, device=stopwatch.device)
        table = measure_latency_table(network, (1, 3, 16, 16), timer, cache=LatencyCache(timer.machine, tmp_path))
    assert timer.machine == OrtTimer(1).machine
    assert set(table.layers) == {"0", "2"}
    assert table.dense_ms > 0


def test_a_lost_connection_is_opened_again_and_nothing_is_measured_twice(network: nn.Module, tmp_path: Path) -> None:
    opened: list[Pipe] = []

    def connect() -> Pipe:
        opened.append(Pipe(dies_after=3))
        return opened[-1]

    with DeviceStopwatch(connect, "device", retry_after_s=[0.0] * 3) as stopwatch:
        timer = OrtTimer(1, stopwatch=stopwatch, device=stopwatch.device)
        cache = LatencyCache(timer.machine, tmp_path)
        measure_latency_table(network, (1, 3, 16, 16), timer, cache=cache, passes=1)
    assert len(opened) > 2
    assert all(point.passes == 1 for point in cache._points.values())


def test_a_device_that_stays_away_is_one_error_and_what_was_measured_is_kept(
    network: nn.Module, tmp_path: Path
) -> None:
    pipes = iter([Pipe(dies_after=8)])

    def connect() -> Pipe:
        try:
            return next(pipes)
        except StopIteration:
            raise OSError("no route to host") from None

    with DeviceStopwatch(connect, "orin", retry_after_s=[0.0] * 2) as stopwatch:
        timer = OrtTimer(1, stopwatch=stopwatch, device=stopwatch.device)
        cache = LatencyCache(timer.machine, tmp_path)
        with pytest.raises(ExportError, match="orin does not answer: no route to host"):
            measure_latency_table(network, (1, 3, 16, 16), timer, cache=cache, passes=1)
    assert len(LatencyCache(timer.machine, tmp_path)) > 0


def test_what_the_device_cannot_run_is_told_in_its_words() -> None:
    with DeviceStopwatch(Pipe, "orin") as stopwatch, pytest.raises(ExportError, match=r"orin: .*cannot load"):
        stopwatch.whole(b"no model", (1, 3, 8, 8))
