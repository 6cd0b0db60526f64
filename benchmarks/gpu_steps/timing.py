"""Candidates timed in turns: blocks of calls, ratios of medians with bootstrap intervals over rounds."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch

from gpu_steps.machine import conditions
from prunekit_runtime.measuring.frames import median_interval_ms, ratio_of, verdict

Call = Callable[[], object]
Stopwatch = Callable[[Call, int], float]
"""Time of one of so many calls in a row [ms]."""


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    budget_s: float
    """For all candidates together, warm-up aside."""
    block_ms: float
    """A block holds as many calls as fill this."""
    warm_s: float = 0.5
    """Rounds that do not count, until the clocks have risen."""
    least: int = 11
    most: int = 201
    """Rounds."""


FULL = Effort(budget_s=6.0, block_ms=15.0)
DRY = Effort(budget_s=0.05, block_ms=0.0, warm_s=0.0, least=3, most=3)
_WARMUP_CALLS, _MOST_CALLS = 5, 50


def gpu_ms(call: Call, calls: int) -> float:
    """Time by CUDA events around the calls, which wait for nothing in between: launches count where they are the slower."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def wall_ms(call: Call, calls: int) -> float:
    """Time by the clock; for calls that return when their result is there."""
    started_ns = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - started_ns) / 1e6 / calls


def stopwatch_of(device: str) -> Stopwatch:
    """Return what times torch on a device."""
    return gpu_ms if device == "cuda" else wall_ms


def compare(calls: Mapping[str, Call], stopwatch: Stopwatch, effort: Effort, device: str) -> dict[str, Any]:
    """Time candidates in turns, every second round in reverse; the first one is what the others are compared with.

    Returns:
        for each its median with the 95 % interval [ms] and its speed-up over the first; conditions, and a verdict.
    """
    names = list(calls)
    first_ms: dict[str, float] = {}
    for name, call in calls.items():
        stopwatch(call, 1)  # what is compiled, searched and allocated once
        first_ms[name] = stopwatch(call, _WARMUP_CALLS if effort.block_ms else 1)
    blocks = {name: _calls(first_ms[name], effort) for name in names}
    round_ms = sum(first_ms[name] * blocks[name] for name in names)
    rounds = int(min(effort.most, max(effort.least, effort.budget_s * 1e3 / max(round_ms, 1e-3))))
    before = conditions(device)
    _in_turns(calls, stopwatch, blocks, ceil(effort.warm_s * 1e3 / max(round_ms, 1e-3)))
    samples_ms = _in_turns(calls, stopwatch, blocks, rounds)
    after = conditions(device)
    how, why = verdict(samples_ms[names[0]], before, after)
    found = {name: _summary(samples_ms[names[0]], samples_ms[name], blocks[name]) for name in names}
    return {
        "candidates": found,
        "rounds": rounds,
        "verdict": how,
        "why": why,
        "before": before.to_json(),
        "after": after.to_json(),
    }


def _in_turns(
    calls: Mapping[str, Call], stopwatch: Stopwatch, blocks: Mapping[str, int], rounds: int
) -> dict[str, list[float]]:
    samples_ms = {name: list[float]() for name in calls}
    for number in range(rounds):
        for name in calls if number % 2 == 0 else reversed(list(calls)):
            samples_ms[name].append(stopwatch(calls[name], blocks[name]))
    return samples_ms


def _calls(call_ms: float, effort: Effort) -> int:
    return int(min(_MOST_CALLS, max(1, effort.block_ms / max(call_ms, 1e-3))))


def _summary(base_ms: list[float], own_ms: list[float], calls: int) -> dict[str, Any]:
    low_ms, high_ms = median_interval_ms(own_ms)
    middle_ms = float(np.median(own_ms))
    return {"ms": middle_ms, "low_ms": low_ms, "high_ms": high_ms, "calls": calls, "speedup": ratio_of(own_ms, base_ms)}
