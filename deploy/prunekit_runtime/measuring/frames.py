"""Whole frames, from a picture to its labels, and their parts; several models in alternation.

H W the picture's size.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import numpy as np

from prunekit_runtime.errors import MeasureUsageError
from prunekit_runtime.measuring.conditions import Conditions
from prunekit_runtime.measuring.latency import MAX_RUNS, LatencyReport, summarise
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.running.picturing import PictureModel, stacked

PARTS = ("prepare", "network", "copy_in", "compute", "copy_out", "labels")
_DRAWS = 1000
_WIDE, _DRIFT, _TAIL = 0.025, 0.05, 1.2
_OTHERS = 0.05  # of all cores: shared caches and clocks move a median by some per cent
_HEATED_CELSIUS = 3.0


@dataclasses.dataclass(frozen=True)
class Samples:
    """Times of every frame [ms], in the order they were taken; a part that the runner does not know is empty."""

    warmup_runs: int = 0
    """Frames before these, whose times were not kept."""
    frame_ms: "list[float]" = dataclasses.field(default_factory=lambda: list[float]())
    parts_ms: "dict[str, list[float]]" = dataclasses.field(default_factory=lambda: {part: [] for part in PARTS})

    def latency(self) -> LatencyReport:
        """Return the latency of the whole frame."""
        return summarise(self.frame_ms, batch=1, warmup_runs=self.warmup_runs)

    def compute(self) -> Optional[LatencyReport]:
        """Return the GPU's own time; None where no GPU ran."""
        compute_ms = self.parts_ms["compute"]
        return summarise(compute_ms, batch=1, warmup_runs=self.warmup_runs) if compute_ms else None

    def medians_ms(self) -> "dict[str, Optional[float]]":
        """Return the median of each part; None where it is not known."""
        return {part: float(np.median(values)) if values else None for part, values in self.parts_ms.items()}


def frame(model: PictureModel, picture_HW3: ByteArray, samples: Optional[Samples] = None) -> None:
    """Label one picture, and keep its times."""
    height, width = picture_HW3.shape[:2]
    start_ns = time.perf_counter_ns()
    inputs = stacked([model.prepare(picture_HW3)], model.input_shape[0])
    prepared_ns = time.perf_counter_ns()
    output = model.compute(inputs)
    computed_ns = time.perf_counter_ns()
    model.labels(output[:1], height, width)
    end_ns = time.perf_counter_ns()
    if samples is None:
        return
    samples.frame_ms.append((end_ns - start_ns) * 1e-6)
    own = {"prepare": prepared_ns - start_ns, "network": computed_ns - prepared_ns, "labels": end_ns - computed_ns}
    for part, took_ns in own.items():
        samples.parts_ms[part].append(took_ns * 1e-6)
    for part, took_ms in model.last_parts_ms.items():
        samples.parts_ms[part].append(took_ms)


def measure_frames(
    models: Mapping[str, "tuple[PictureModel, ByteArray]"],
    *,
    runs: int,
    warmup_runs: int,
    on_frame: Callable[[int, int], None] = lambda _done, _all: None,
) -> "dict[str, Samples]":
    """Measure models in alternation, a frame each a round, so that a drift meets all of them alike.

    Args:
        models: and the picture of each, uint8 (H, W, 3).
        runs: rounds that count.
        warmup_runs: rounds before.
        on_frame: told (rounds done, rounds).

    Raises:
        MeasureUsageError: a count is out of range.
    """
    if not 1 <= runs <= MAX_RUNS or not 0 <= warmup_runs <= MAX_RUNS:
        raise MeasureUsageError(
            f"--runs takes 1 to {MAX_RUNS}, --warmup 0 to {MAX_RUNS}; got {runs} and {warmup_runs}."
        )
    samples = {name: Samples(warmup_runs) for name in models}
    for number in range(warmup_runs + runs):
        for name, (model, picture_HW3) in models.items():
            frame(model, picture_HW3, samples[name] if number >= warmup_runs else None)
        on_frame(number + 1, warmup_runs + runs)
    return samples


def median_interval_ms(samples_ms: Sequence[float]) -> "tuple[float, float]":
    """Return the 95 % interval of the median, by the bootstrap."""
    values_ms = np.asarray(samples_ms)
    drawn = np.random.default_rng(0).integers(0, len(values_ms), (_DRAWS, len(values_ms)))
    low, high = np.percentile(np.median(values_ms[drawn], axis=1), (2.5, 97.5))
    return float(low), float(high)


def ratio_of(first_ms: Sequence[float], second_ms: Sequence[float]) -> "dict[str, float]":
    """Return the ratio of two medians, second over first, with its 95 % interval; rounds are drawn as pairs."""
    pairs = np.asarray([first_ms, second_ms])
    drawn = np.random.default_rng(0).integers(0, pairs.shape[1], (_DRAWS, pairs.shape[1]))
    ratios = np.median(pairs[1][drawn], axis=1) / np.median(pairs[0][drawn], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return {"ratio": float(np.median(pairs[1]) / np.median(pairs[0])), "low": float(low), "high": float(high)}


def verdict(samples_ms: Sequence[float], before: Conditions, after: Conditions) -> "tuple[str, list[str]]":
    """Return "stable", "noisy" or "throttled", and why.

    Noisy: the interval of the median is wider than 2.5 %, the p90 more than 1.2 times the median, the last third more
    than 5 % slower or faster than the first, or other processes took more than 5 % of the machine's CPU time.
    Throttled: the card says that it is slowed; or the last third is more than 5 % slower, and a temperature rose by 3
    degrees or more.
    """
    values_ms = np.asarray(samples_ms)
    middle_ms, (low_ms, high_ms) = float(np.median(values_ms)), median_interval_ms(samples_ms)
    third = max(1, len(values_ms) // 3)
    drift = float(np.median(values_ms[-third:]) / np.median(values_ms[:third])) - 1
    reasons: list[str] = []
    if (high_ms - low_ms) / middle_ms > _WIDE:
        reasons.append(f"the median is known to {low_ms:.3g} to {high_ms:.3g} ms")
    tail = float(np.percentile(values_ms, 90)) / middle_ms
    if tail > _TAIL:
        reasons.append(f"the slowest tenth takes more than {tail:.2f} times the median")
    if abs(drift) > _DRIFT:
        reasons.append(f"the last third is {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} than the first")
    others = after.others_share(before)
    if others is not None and others > _OTHERS:
        reasons.append(f"other processes took {others:.0%} of the CPU time")
    rise = _heated_celsius(before.temperatures_celsius, after.temperatures_celsius)
    is_hot = drift > _DRIFT and rise >= _HEATED_CELSIUS
    if is_hot:
        reasons.append(f"a temperature rose by {rise:.0f} degrees")
    reasons += [f"the card is slowed by {words}" for words in after.slowed_by]
    if is_hot or after.slowed_by:
        return "throttled", reasons
    return ("noisy" if reasons else "stable"), reasons


def _heated_celsius(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return by how much the temperature rose that rose most."""
    rises = [after[name] - before[name] for name in before.keys() & after.keys()]
    return max(rises, default=0.0)
