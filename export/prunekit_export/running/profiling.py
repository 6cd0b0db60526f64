"""Latency of runs, ONNX files and engines, all through one runner interface, several of them in alternation."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunekit_export.errors import ExportUsageError
from prunekit_export.running.any_file import AnyRunner
from prunekit_export.running.layers import LayerTime, profile_layers
from prunekit_export.running.runners import contract_of_runner, open_runner
from prunekit_runtime.errors import EndsError
from prunekit_runtime.measuring.conditions import read_conditions
from prunekit_runtime.measuring.frames import median_interval_ms, ratio_of, verdict
from prunekit_runtime.measuring.latency import alternate, peak_memory_bytes, summarise
from prunekit_runtime.running.ort import MAX_THREADS
from prunekit_runtime.running.runner import check_finite, check_memory
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_runtime.measuring.conditions import Conditions
    from prunekit_runtime.measuring.latency import LatencyReport, Samples
    from prunekit_runtime.preprocessing import ByteArray
    from prunekit_runtime.running.runner import FloatArray, Graph, Runner


MOST = 10**6  # of runs or images
MOST_LAYER_RUNS = 50
_MOST_WAITED = 0.05  # of a single thread's time


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
    layers: bool = False
    """Also time the layers of each ONNX file, by themselves, after the models."""

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
    interval_ms: tuple[float, float] = (0.0, 0.0)
    """95 % interval of the median."""
    cpu_ms: float = 0.0
    """CPU time of a call, of all threads; median."""
    verdict: str = "stable"
    """"stable", "noisy" or "throttled"."""
    reasons: tuple[str, ...] = ()
    graph: Graph = "logits"
    """What was timed: prepared images to logits, or pictures to labels, all between inside."""
    input_shape: tuple[int, ...] = ()
    """(N, 3, h, w), or of pictures (N, H, W, 3)."""
    layers: tuple[LayerTime, ...] = ()
    """The slowest first, where they were asked for."""


@dataclass(frozen=True)
class ProfileReport:
    """Models measured in one alternating loop on the same input, so that their ratio is fair.

    A graph from pictures to labels has pictures for its input, so that against a file of logits it is the whole that is
    compared with a part.
    """

    models: tuple[ModelLatency, ...]
    height: int
    width: int
    batch: int
    threads: int
    peak_memory_bytes: int
    """Of the whole process; it cannot be told apart by model."""
    speed_up_interval: tuple[float, float] | None = None
    """95 %, by rounds drawn again; None for a single model."""

    @property
    def is_stable(self) -> bool:
        """Whether the numbers of all models can be relied on."""
        return all(model.verdict == "stable" for model in self.models)

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
    on_samples: Callable[[list[Samples]], None] | None = None,
) -> ProfileReport:
    """Measure the models alternately on one random input, pictures where a graph takes those.

    Args:
        paths: run directories, ONNX files, engines; the same one twice shows the noise.
        config: how to measure.
        trust_code: run the python: factories of runs that others made.
        on_round: told (rounds done, rounds) after each round, outside the time that is measured.
        on_samples: given every call of each model, in the order of `paths`.

    Raises:
        PrunekitError: a model cannot be opened or run, its logits are not finite, or the input's size is not known.
    """
    if config.layers:
        _check_layers(paths, config)
    with ExitStack() as stack:
        runners = [stack.enter_context(_opened(path, config, trust_code=trust_code)) for path in paths]
        inputs = _inputs(runners, paths, config)
        for runner, given in zip(runners, inputs, strict=True):
            check_finite(runner.run(given), runner.name)
        before = read_conditions(None)
        samples = _compare(runners, inputs, config, on_round)
        judge = _Judge(config, before, read_conditions(None))
    if on_samples is not None:
        on_samples(samples)
    models = tuple(
        judge.model(path, runner, taken, given.shape)
        for path, runner, taken, given in zip(paths, runners, samples, inputs, strict=True)
    )
    return ProfileReport(
        models=_with_layers(models, inputs, config) if config.layers else models,
        speed_up_interval=_ratio(samples),
        height=_sides(runners[0], inputs[0])[0],
        width=_sides(runners[0], inputs[0])[1],
        batch=config.batch,
        threads=config.threads,
        peak_memory_bytes=peak_memory_bytes(),
    )


def _check_layers(paths: Sequence[Path], config: ProfileConfig) -> None:
    wrong = next((path for path in paths if path.suffix != ".onnx"), None)
    if wrong is not None or config.provider not in (None, "cpu"):
        got = f"{wrong} is none" if wrong is not None else f"provider {config.provider} was asked for"
        raise ExportUsageError(
            f"Layers are timed of ONNX files, by ONNX Runtime on the CPU; {got}. Give the .onnx file of its export, "
            f"without {spelled('--provider', 'provider')}, or leave out {spelled('--layers', 'layers')}."
        )


def _with_layers(
    models: Sequence[ModelLatency], inputs: Sequence[FloatArray | ByteArray], config: ProfileConfig
) -> tuple[ModelLatency, ...]:
    def timed(model: ModelLatency, given: FloatArray | ByteArray) -> tuple[LayerTime, ...]:
        effort = {"threads": config.threads, "runs": min(config.runs, MOST_LAYER_RUNS), "warmup": 2}
        return tuple(profile_layers(model.model, given, **effort))

    return tuple(
        dataclasses.replace(model, layers=timed(model, given)) for model, given in zip(models, inputs, strict=True)
    )


def _opened(path: Path, config: ProfileConfig, *, trust_code: bool) -> Runner | AnyRunner:
    """Return what runs a model; an ONNX file that is none of segmentation runs as it is, on made-up inputs."""
    try:
        runner = open_runner(
            path,
            provider=config.provider,
            threads=config.threads,
            trust_code=trust_code,
            graph=None,
            rounding="none",  # roundings take time that the model does not
        )
        if runner.graph == "labels" or runner.input_shape[1] in (None, 3):
            return runner
        runner.close()
    except EndsError:
        if path.suffix != ".onnx":
            raise
    size = {"batch": config.batch, "height": config.height, "width": config.width}
    return AnyRunner(path, config.provider, config.threads, **size)


def _sides(runner: Runner | AnyRunner, given: FloatArray | ByteArray) -> tuple[int, int]:
    """Return the height and the width of what a runner is given [px]."""
    if isinstance(runner, AnyRunner):
        return runner.sides
    rows = 1 if runner.graph == "labels" else 2
    return given.shape[rows], given.shape[rows + 1]


def random_images(batch: int, height: int, width: int) -> FloatArray:
    """Return the same normal noise every time, float32 (batch, 3, height, width)."""
    return np.random.default_rng(0).standard_normal((batch, 3, height, width), dtype=np.float32)


def random_pictures(batch: int, height: int, width: int) -> ByteArray:
    """Return the same pictures of noise every time, uint8 (batch, height, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


@dataclass(frozen=True)
class _Judge:
    """Says what samples are worth."""

    config: ProfileConfig
    before: Conditions
    after: Conditions

    def model(self, path: Path, runner: Runner | AnyRunner, samples: Samples, shape: tuple[int, ...]) -> ModelLatency:
        judged, reasons = verdict(samples.wall_ms, self.before, self.after)
        waited = 1 - sum(samples.cpu_ms) / sum(samples.wall_ms)
        if self.config.threads == 1 and "CPU" in runner.name.upper() and waited > _MOST_WAITED:
            reasons.append(f"the process waited for a core for {waited:.0%} of the time: the machine is busy")
            judged = "noisy" if judged == "stable" else judged
        return ModelLatency(
            model=path,
            ran_on=runner.name,
            latency=summarise(samples.wall_ms, batch=self.config.batch, warmup_runs=self.config.warmup_runs),
            interval_ms=median_interval_ms(samples.wall_ms),
            cpu_ms=float(np.median(samples.cpu_ms)),
            verdict=judged,
            reasons=tuple(reasons),
            graph=runner.graph,
            input_shape=shape,
        )


def _ratio(samples: Sequence[Samples]) -> tuple[float, float] | None:
    if len(samples) < 2:
        return None
    found = ratio_of(samples[0].wall_ms, samples[-1].wall_ms)
    return found["low"], found["high"]


def _compare(
    runners: Sequence[Runner | AnyRunner],
    inputs: Sequence[FloatArray | ByteArray],
    config: ProfileConfig,
    on_round: Callable[[int, int], None] | None,
) -> list[Samples]:
    def run_of(runner: Runner | AnyRunner, given: FloatArray | ByteArray) -> Callable[[], None]:
        def run() -> None:
            runner.run(given)

        return run

    pairs = enumerate(zip(runners, inputs, strict=True))
    runs = {f"{index}": run_of(runner, given) for index, (runner, given) in pairs}
    if on_round is not None:
        # One more entry of the round: its time is taken apart from the models' and dropped.
        runs["progress"] = _ticker(on_round, config.warmup_runs + config.runs)
    samples = alternate(runs, warmup_runs=config.warmup_runs, runs=config.runs)
    return [samples[f"{index}"] for index in range(len(runners))]


def _ticker(on_round: Callable[[int, int], None], rounds: int) -> Callable[[], None]:
    done = itertools.count(1)
    return lambda: on_round(next(done), rounds)


def _inputs(
    runners: Sequence[Runner | AnyRunner], paths: Sequence[Path], config: ProfileConfig
) -> list[FloatArray | ByteArray]:
    """Return what each runner is given: all that take pictures the same ones, all that take images the same ones."""
    made: dict[Graph, FloatArray | ByteArray] = {}
    pairs = [pair for pair in zip(runners, paths, strict=True) if not isinstance(pair[0], AnyRunner)]
    graphs: set[Graph] = {runner.graph for runner, _ in pairs}
    for graph in graphs:
        of_graph = [pair for pair in pairs if pair[0].graph == graph]
        height, width = _input_size(of_graph, config)
        check_memory((config.batch, 3, height, width), "Input")
        make = random_pictures if graph == "labels" else random_images
        made[graph] = make(config.batch, height, width)
    return [runner.input if isinstance(runner, AnyRunner) else made[runner.graph] for runner in runners]


def _input_size(models: Sequence[tuple[Runner | AnyRunner, Path]], config: ProfileConfig) -> tuple[int, int]:
    """Return the size asked for, else the first that a model has: in its file, then in its contract."""
    if config.height:
        return config.height, config.width
    for runner, _ in models:
        height, width = runner.input_shape[1:3] if runner.graph == "labels" else runner.input_shape[2:]
        if height and width:
            return height, width
    for runner, path in models:
        contract = contract_of_runner(runner, path)
        if contract is not None and contract.height:
            size = contract.height, contract.width
            return size if runner.graph == "labels" else contract.network_size(*size)
    raise ExportUsageError(
        f"{models[0][1]} takes images of any size and has no contract beside it. Give --height and --width."
    )
