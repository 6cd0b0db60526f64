"""Latency and memory: warmed up, every sample kept, percentiles of all of them; two models measured in alternation."""

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunekit_runtime.errors import MeasureError, MeasureUsageError

MAX_RUNS = 10**6  # every sample is kept
Run = Callable[[], object]  # what it returns is thrown away


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """Latency of one call [ms] over `runs` calls after `warmup_runs` that were not counted; `batch` images a call."""

    runs: int
    warmup_runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    images_per_s: float  # batch / mean: what a loop of such calls gets through
    batch: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "LatencyReport":
        """Read what `to_json` gives.

        Raises:
            MeasureError: a field is missing, unknown or no finite number from 0 up.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        numbers: dict[str, Any] = values if isinstance(values, dict) else {}
        if sorted(numbers) != sorted(names) or not all(map(_is_measured, numbers.values())):
            raise MeasureError(f"A latency report must hold the numbers {', '.join(names)}. Measure again.")
        return cls(**numbers)


def summarise(samples_ms: Sequence[float], *, batch: int, warmup_runs: int) -> LatencyReport:
    """Make a report from the duration of each call [ms].

    Raises:
        MeasureError: there is no sample, or the batch is below 1.
    """
    if not samples_ms or batch < 1:
        raise MeasureError(f"A latency needs at least 1 run of at least 1 image, got {len(samples_ms)} of {batch}.")
    values_ms = np.asarray(samples_ms, dtype=np.float64)
    p50_ms, p90_ms, p99_ms = (float(value) for value in np.percentile(values_ms, (50, 90, 99)))
    mean_ms = float(values_ms.mean())
    return LatencyReport(
        runs=len(samples_ms),
        warmup_runs=warmup_runs,
        p50_ms=p50_ms,
        p90_ms=p90_ms,
        p99_ms=p99_ms,
        mean_ms=mean_ms,
        std_ms=float(values_ms.std()),
        images_per_s=batch * 1e3 / max(mean_ms, 1e-6),  # 1e-6: an empty call may take 0 ticks of the clock
        batch=batch,
    )


def measure(run: Run, *, batch: int, warmup_runs: int = 20, runs: int = 200) -> LatencyReport:
    """Time `run`, which must return only when its result is there (GPU runners synchronise).

    Raises:
        MeasureError: a count is out of range.
    """
    return compare({"model": run}, batch=batch, warmup_runs=warmup_runs, runs=runs)["model"]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Every call that counts, in the order they were made [ms]."""

    wall_ms: "list[float]" = dataclasses.field(default_factory=lambda: list[float]())
    cpu_ms: "list[float]" = dataclasses.field(default_factory=lambda: list[float]())
    """Of all threads of this process."""


def compare(
    runs_by_name: Mapping[str, Run], *, batch: int, warmup_runs: int = 20, runs: int = 200
) -> dict[str, LatencyReport]:
    """Time several models as `alternate` does, and summarise.

    Raises:
        MeasureError: a count is out of range, or there is nothing to measure.
    """
    taken = alternate(runs_by_name, warmup_runs=warmup_runs, runs=runs)
    return {name: summarise(each.wall_ms, batch=batch, warmup_runs=warmup_runs) for name, each in taken.items()}


def alternate(runs_by_name: Mapping[str, Run], *, warmup_runs: int = 20, runs: int = 200) -> "dict[str, Samples]":
    """Time several models alternately, one call each per round.

    A drift of clock or temperature then meets all of them alike, and the ratio of their medians is fair.

    Raises:
        MeasureError: a count is out of range, or there is nothing to measure.
    """
    if not runs_by_name or not 1 <= runs <= MAX_RUNS or not 0 <= warmup_runs <= MAX_RUNS:
        raise MeasureUsageError(
            f"Cannot measure {len(runs_by_name)} models with {runs} runs and {warmup_runs} warm-up runs. "
            f"Give at least 1 model, 1 run and 0 warm-up runs, and at most {MAX_RUNS} of each."
        )
    samples = {name: Samples() for name in runs_by_name}
    for number in range(warmup_runs + runs):
        for name, run in runs_by_name.items():
            wall_ms, cpu_ms = _timed_ms(run)
            if number >= warmup_runs:
                samples[name].wall_ms.append(wall_ms)
                samples[name].cpu_ms.append(cpu_ms)
    return samples


def _is_measured(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process ever had [bytes]; it cannot be told apart by model."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # KiB everywhere but on macOS


def _timed_ms(run: Run) -> "tuple[float, float]":
    cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
    run()
    end_ns = time.perf_counter_ns()
    return (end_ns - start_ns) * 1e-6, (time.process_time_ns() - cpu_ns) * 1e-6
