"""Latency of runs, ONNX files and engines, all through one runner interface, several of them in alternation."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunekit_export.errors import ExportUsageError
from prunekit_export.running.runners import contract_of_runner, open_runner
from prunekit_runtime.measuring.latency import compare, peak_memory_bytes
from prunekit_runtime.running.ort import MAX_THREADS
from prunekit_runtime.running.runner import check_finite, check_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_runtime.measuring.latency import LatencyReport
    from prunekit_runtime.running.runner import FloatArray, Runner


MOST = 10**6  # of runs or images


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """How to measure."""

    height: int = 0
    """Height of the network's input [px]; 0 takes the model's own."""
    width: int = 0
    """Width of the network's input [px]; 0 takes the model's own."""
    batch: int = 1
    """Images at once."""
    provider: str | None = None
    """Where to run: cpu, cuda, tensorrt; None is the CPU, and the GPU for an engine."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to the library."""
    warmup_runs: int = 20
    """Runs before the first that counts."""
    runs: int = 200
    """Runs that count."""

    def __post_init__(self) -> None:
        if (self.height == 0) != (self.width == 0) or min(self.height, self.width) < 0:
            raise ExportUsageError(f"Give height and width together, above 0; got {self.height} and {self.width}.")
        fits = 1 <= self.batch <= MOST and 1 <= self.runs <= MOST and 0 <= self.warmup_runs <= MOST
        if not fits or not 0 <= self.threads <= MAX_THREADS:
            raise ExportUsageError(
                f"batch and runs must be at least 1, warm-up runs and threads at least 0, at most {MOST} each "
                f"and {MAX_THREADS} threads; "
                f"got {self.batch}, {self.runs}, {self.warmup_runs} and {self.threads}."
            )


@dataclass(frozen=True)
class ModelLatency:
    """One model: what ran, on what, how fast."""

    model: Path
    ran_on: str
    latency: LatencyReport


@dataclass(frozen=True)
class ProfileReport:
    """Models measured in one alternating loop on the same input, so that their ratio is fair."""

    models: tuple[ModelLatency, ...]
    height: int
    width: int
    batch: int
    threads: int
    peak_memory_bytes: int
    """Of the whole process; it cannot be told apart by model."""

    @property
    def speed_up(self) -> float | None:
        """How many times as fast as the last model the first one is, by medians; None for a single model."""
        if len(self.models) < 2:
            return None
        return self.models[-1].latency.p50_ms / self.models[0].latency.p50_ms


def profile_models(
    paths: Sequence[Path],
    config: ProfileConfig,
    *,
    trust_code: bool = False,
    on_round: Callable[[int, int], None] | None = None,
) -> ProfileReport:
    """Measure the models alternately on one random input.

    Args:
        paths: run directories, ONNX files, engines; the same one twice shows the noise.
        config: how to measure.
        trust_code: run the python: factories of runs that others made.
        on_round: told (rounds done, rounds) after each round, outside the time that is measured.

    Raises:
        PrunekitError: a model cannot be opened or run, its logits are not finite, or the input's size is not known.
    """
    with ExitStack() as stack:
        runners = [
            stack.enter_context(
                open_runner(path, provider=config.provider, threads=config.threads, trust_code=trust_code)
            )
            for path in paths
        ]
        height, width = _input_size(runners, paths, config)
        check_memory((config.batch, 3, height, width), "Input")
        images_N3hw = random_images(config.batch, height, width)
        for runner in runners:
            check_finite(runner.run(images_N3hw), runner.name)
        reports = _compare(runners, images_N3hw, config, on_round)
    return ProfileReport(
        models=tuple(
            ModelLatency(path, runner.name, report)
            for path, runner, report in zip(paths, runners, reports, strict=True)
        ),
        height=height,
        width=width,
        batch=config.batch,
        threads=config.threads,
        peak_memory_bytes=peak_memory_bytes(),
    )


def random_images(batch: int, height: int, width: int) -> FloatArray:
    """Return the same normal noise every time, float32 (batch, 3, height, width)."""
    return np.random.default_rng(0).standard_normal((batch, 3, height, width), dtype=np.float32)


def _compare(
    runners: Sequence[Runner],
    images_N3hw: FloatArray,
    config: ProfileConfig,
    on_round: Callable[[int, int], None] | None,
) -> list[LatencyReport]:
    def run_of(runner: Runner) -> Callable[[], None]:
        def run() -> None:
            runner.run(images_N3hw)

        return run

    runs = {f"{index}": run_of(runner) for index, runner in enumerate(runners)}
    if on_round is not None:
        # One more entry of the round: its time is taken apart from the models' and dropped.
        runs["progress"] = _ticker(on_round, config.warmup_runs + config.runs)
    reports = compare(runs, batch=config.batch, warmup_runs=config.warmup_runs, runs=config.runs)
    return [reports[f"{index}"] for index in range(len(runners))]


def _ticker(on_round: Callable[[int, int], None], rounds: int) -> Callable[[], None]:
    done = itertools.count(1)
    return lambda: on_round(next(done), rounds)


def _input_size(runners: Sequence[Runner], paths: Sequence[Path], config: ProfileConfig) -> tuple[int, int]:
    """Return the size asked for, else the first that a model has: in its file, then in its contract."""
    if config.height:
        return config.height, config.width
    for runner in runners:
        height, width = runner.input_shape[2:]
        if height and width:
            return height, width
    for runner, path in zip(runners, paths, strict=True):
        contract = contract_of_runner(runner, path)
        if contract is not None and contract.height:
            return contract.network_size(contract.height, contract.width)
    raise ExportUsageError(
        f"{paths[0]} takes images of any size and has no contract beside it. Give --height and --width."
    )
