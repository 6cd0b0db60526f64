"""Whole frames: what is counted to which part, and when numbers are not to be trusted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.errors import MeasureUsageError
from prunekit_runtime.measuring.conditions import Conditions
from prunekit_runtime.measuring.frames import PARTS, Samples, measure_frames, median_interval_ms, ratio_of, verdict
from prunekit_runtime.running.nvml import GpuState

DEVICE = {"temperatures_celsius": {}, "power_mode": None, "cpu_governor": None, "clocks_mhz": {}}
PICTURE_HW3 = np.zeros((4, 6, 3), np.uint8)


def conditions(celsius: float = 50.0, **card) -> Conditions:
    return Conditions({**DEVICE, "temperatures_celsius": {"cpu": celsius}}, GpuState(**card) if card else None)


class Model:
    """Counts its frames; the runner of one with a GPU tells its parts."""

    input_shape = (2, 3, 4, 6)

    def __init__(self, parts_ms: dict[str, float] | None = None) -> None:
        self.last_parts_ms, self.frames, self.batches = parts_ms or {}, 0, []

    def prepare(self, picture_HW3):
        return picture_HW3[None]

    def compute(self, inputs):
        self.batches.append(len(inputs))
        return inputs

    def labels(self, output_1, height, width):
        assert (len(output_1), height, width) == (1, 4, 6)
        self.frames += 1
        return output_1


def test_models_take_turns_and_frames_before_are_not_kept():
    first, second = Model({"copy_in": 0.1, "compute": 2.0, "copy_out": 0.3}), Model()
    told: list[tuple[int, int]] = []
    samples = measure_frames(
        {"gpu": (first, PICTURE_HW3), "cpu": (second, PICTURE_HW3)},
        runs=5,
        warmup_runs=2,
        on_frame=lambda done, rounds: told.append((done, rounds)),
    )
    assert (first.frames, second.frames, told[-1]) == (7, 7, (7, 7))
    assert set(first.batches) == {2}  # a model of a fixed number of images is given that many
    assert [len(each.frame_ms) for each in samples.values()] == [5, 5]
    assert samples["gpu"].medians_ms()["compute"] == 2.0
    assert samples["gpu"].compute().runs == samples["gpu"].latency().runs == 5
    assert samples["gpu"].latency().warmup_runs == 2
    assert samples["cpu"].compute() is None
    assert {part for part, value in samples["cpu"].medians_ms().items() if value is None} == {
        "copy_in",
        "compute",
        "copy_out",
    }
    own = ("prepare", "network", "labels")
    totals = np.sum([samples["gpu"].parts_ms[part] for part in own], axis=0)
    assert totals == pytest.approx(samples["gpu"].frame_ms)  # the three parts are the whole frame
    assert set(samples["gpu"].parts_ms) == set(PARTS)


@pytest.mark.parametrize(("runs", "warmup_runs"), [(0, 0), (10**9, 0), (5, -1)])
def test_counts_out_of_range_are_refused(runs, warmup_runs):
    with pytest.raises(MeasureUsageError):
        measure_frames({"a": (Model(), PICTURE_HW3)}, runs=runs, warmup_runs=warmup_runs)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40))
def test_the_interval_holds_the_median(samples_ms):
    low_ms, high_ms = median_interval_ms(samples_ms)
    assert low_ms <= float(np.median(samples_ms)) * (1 + 1e-9)
    assert high_ms >= float(np.median(samples_ms)) * (1 - 1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low_ms, high_ms = median_interval_ms(generator.normal(10, 1, 60))
        covered += low_ms <= 10 <= high_ms
    assert 180 <= covered <= 200


@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_a_ratio_of_pairs_is_told_through_a_drift_that_both_share(seed, ratio):
    generator = np.random.default_rng(seed)
    drift = 1 + np.linspace(0, 1, 100)
    first_ms = drift * (1 + 0.01 * generator.standard_normal(100))
    second_ms = ratio * drift * (1 + 0.01 * generator.standard_normal(100))
    found = ratio_of(first_ms, second_ms)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert found["ratio"] == pytest.approx(ratio, rel=0.05)


STEADY = [10.0 + 0.01 * (number % 3) for number in range(90)]


def test_steady_times_are_stable():
    assert verdict(STEADY, conditions(), conditions(celsius=70)) == ("stable", [])


def test_a_wide_interval_a_long_tail_and_a_drift_are_noisy():
    jumping = [5.0, 15.0] * 45
    tail = [10.0] * 75 + [30.0] * 15
    faster = [10.0] * 45 + [8.0] * 45
    for samples_ms, words in ((jumping, "known to"), (tail, "slowest tenth"), (faster, "faster than the first")):
        judged, reasons = verdict(samples_ms, conditions(), conditions())
        assert judged == "noisy"
        assert any(words in reason for reason in reasons)


def test_slower_and_hotter_is_throttled_and_slower_alone_is_noisy():
    slower = [10.0] * 45 + [12.0] * 45
    assert verdict(slower, conditions(), conditions())[0] == "noisy"
    judged, reasons = verdict(slower, conditions(), conditions(celsius=60))
    assert judged == "throttled"
    assert any("rose by 10 degrees" in reason for reason in reasons)


def test_a_card_that_says_it_is_slowed_is_believed():
    judged, reasons = verdict(STEADY, conditions(), conditions(slowed_by=("the power limit",)))
    assert (judged, reasons) == ("throttled", ["the card is slowed by the power limit"])


def test_the_card_s_temperature_counts_as_a_board_s_does():
    slower = [10.0] * 45 + [12.0] * 45
    assert verdict(slower, conditions(temperature_celsius=60), conditions(temperature_celsius=70))[0] == "throttled"


def test_samples_without_a_gpu_have_no_compute():
    assert Samples(frame_ms=[1.0, 2.0]).compute() is None
