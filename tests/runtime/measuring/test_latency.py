"""Latency: every call counted once, models alternate, percentiles are of all samples."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.errors import MeasureError
from prunekit_runtime.measuring.latency import compare, measure, peak_memory_bytes, summarise


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 4))
def test_comparison_alternates_and_counts(warmup_runs: int, runs: int, models: int) -> None:
    calls: list[int] = []
    by_name = {str(number): (lambda number=number: calls.append(number)) for number in range(models)}
    reports = compare(by_name, batch=2, warmup_runs=warmup_runs, runs=runs)
    assert calls == list(range(models)) * (warmup_runs + runs)
    assert list(reports) == list(by_name)
    assert all((report.runs, report.warmup_runs, report.batch) == (runs, warmup_runs, 2) for report in reports.values())


def test_warm_up_is_not_counted() -> None:
    durations_s = iter([0.02, 0.0, 0.0])
    report = measure(lambda: time.sleep(next(durations_s)), batch=1, warmup_runs=1, runs=2)
    assert report.p99_ms < 15


def test_a_slower_model_is_slower() -> None:
    reports = compare({"fast": lambda: None, "slow": lambda: time.sleep(0.002)}, batch=1, warmup_runs=0, runs=5)
    assert reports["slow"].p50_ms >= 2 > reports["fast"].p50_ms


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=50), st.integers(1, 16))
def test_summary_is_ordered(samples_ms: list[float], batch: int) -> None:
    report = summarise(samples_ms, batch=batch, warmup_runs=0)
    slack = 1e-9 * max(samples_ms)
    assert min(samples_ms) - slack <= report.p50_ms <= report.p90_ms <= report.p99_ms <= max(samples_ms) + slack
    assert report.images_per_s == pytest.approx(batch * 1e3 * len(samples_ms) / sum(samples_ms))
    assert report.to_json()["p50_ms"] == report.p50_ms


@pytest.mark.parametrize(("batch", "warmup_runs", "runs"), [(1, 0, 0), (1, -1, 1), (0, 0, 1)])
def test_impossible_counts_are_refused(batch: int, warmup_runs: int, runs: int) -> None:
    with pytest.raises(MeasureError):
        measure(lambda: None, batch=batch, warmup_runs=warmup_runs, runs=runs)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(MeasureError):
        compare({}, batch=1)


def test_peak_memory_holds_what_was_used() -> None:
    before = peak_memory_bytes()
    block = bytearray(before + (64 << 20))
    assert peak_memory_bytes() >= before
    assert peak_memory_bytes() >= len(block) // 2
