"""What other processes take of the CPUs, and that it makes numbers noisy."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunekit_runtime.measuring.conditions import Conditions
from prunekit_runtime.measuring.cpu_work import CpuWork, read_cpu_work
from prunekit_runtime.measuring.frames import verdict

STEADY_MS = [10.0 + 0.01 * (number % 3) for number in range(60)]
DEVICE = {"temperatures_celsius": {}, "power_mode": None, "cpu_governor": None, "clocks_mhz": {}}


def at(wall_s: float, busy_s: float, own_s: float, cores: int = 4) -> Conditions:
    return Conditions(DEVICE, None, CpuWork(wall_s, busy_s, own_s, cores))


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (at(10, 12, 10), 2 / 40),
        (at(10, 10, 10), 0.0),
        (at(10, 9, 10), 0.0),  # counters that are read one after the other may cross
        (at(10, 40, 0), 1.0),
        (at(0.1, 40, 0), None),
        (Conditions(DEVICE), None),
    ],
)
def test_the_share_is_what_this_process_did_not_take(after: Conditions, share: float | None) -> None:
    assert after.others_share(at(0, 0, 0)) == (None if share is None else pytest.approx(share))


def test_numbers_beside_others_are_noisy_however_steady() -> None:
    assert verdict(STEADY_MS, at(0, 0, 0), at(10, 11, 10)) == ("stable", [])
    judged, reasons = verdict(STEADY_MS, at(0, 0, 0), at(10, 18, 10))
    assert (judged, reasons) == ("noisy", ["other processes took 20% of the CPU time"])


def test_another_process_is_seen_and_this_one_is_not() -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("no /proc/stat: not Linux")
    before = read_cpu_work()
    assert before is not None
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(1)
        after = read_cpu_work()
    finally:
        busy.kill()
        busy.wait()
    assert after is not None
    if after.busy_s == before.busy_s:
        pytest.skip("the counters of /proc/stat stand still here")
    share = after.others_share(before)
    assert share is not None
    # One core of `cores`, or a part of it where the machine is full already.
    assert share > 0.3 / before.cores


@pytest.mark.parametrize("content", ["", "cpu x y\n", "cpu\n", "intr 1 2 3\n", "cpu  1 2 3 4 5 6 7 8\n"])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, content: str) -> None:
    stat = tmp_path / "stat"
    assert read_cpu_work(stat) is None
    stat.write_text(content)
    assert read_cpu_work(stat) is None
