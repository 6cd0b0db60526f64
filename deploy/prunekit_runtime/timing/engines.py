"""Whole models timed as TensorRT engines of this machine: built from their bytes, run, and thrown away."""

import tempfile
import threading
from pathlib import Path
from typing import Any

from prunekit_runtime.building import BuildOptions, Compiler, Here, Profile, in_thread
from prunekit_runtime.measuring.latency import LatencyReport, summarise
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.trt import TrtRunner
from prunekit_runtime.timing.kernels import noise

WARMUP_RUNS, RUNS = 20, 100
_OPTIONS = BuildOptions()  # as `build` without options: TF32 off, TensorRT's own level


class EngineStopwatch:
    """Builds engines and times them: the GPU's own time, without the copies.

    What TensorRT timed for one engine is handed to the next, so that layers that come again are built fast.

    Raises:
        BuildError: there is no TensorRT, or no GPU.
    """

    def __init__(self) -> None:
        self._here = Here.found()
        self._timings = b""
        self.runtime: str = f"{self._here.tensorrt.package} {self._here.tensorrt.version}"

    def describe(self) -> dict[str, Any]:
        """Return what the machine tells of itself, its GPU included."""
        gpu = self._here.gpu
        return {**describe_device(), "gpu": gpu.name, "gpu_sm": gpu.sm, "gpu_driver": gpu.driver}

    def whole(self, model: bytes, input_shape: tuple[int, ...]) -> LatencyReport:
        """Build an engine of a model that is given as bytes, at one size, and time it.

        Raises:
            BuildError: it cannot be built.
            RunnerError: it does not run.
        """
        with tempfile.TemporaryDirectory() as folder:
            plan = Path(folder) / "model.plan"
            plan.write_bytes(self._built(model, input_shape))
            return time_plan(plan, input_shape)

    def _built(self, model: bytes, input_shape: tuple[int, ...]) -> bytes:
        stop = threading.Event()

        def compiled() -> bytes:
            compiler = Compiler(self._here.tensorrt, lambda _: None, stop)
            network = compiler.parse(model, "the model to be timed")
            profile, limit_mib = Profile(input_shape, input_shape, input_shape), self._here.workspace_mib(_OPTIONS)
            plan, resolved = compiler.build(network, profile, _OPTIONS, limit_mib, self._timings)
            self._timings = resolved.timing_cache or b""
            return plan

        return in_thread(compiled, stop)


def time_plan(plan: Path, input_shape: tuple[int, ...]) -> LatencyReport:
    """Time an engine on noise: the GPU's own time of each run.

    Raises:
        RunnerError: it does not run here.
    """
    images, samples_ms = noise(input_shape), list[float]()
    with TrtRunner(plan, graph=None) as runner:
        for _ in range(WARMUP_RUNS + RUNS):
            runner.run(images)
            samples_ms.append(runner.last_compute_ms)
    return summarise(samples_ms[WARMUP_RUNS:], batch=input_shape[0], warmup_runs=WARMUP_RUNS)
