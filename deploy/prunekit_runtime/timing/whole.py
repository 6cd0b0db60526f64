"""Whole models timed from their bytes: in ONNX Runtime on the CPU, the quietest of a few stretches."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from prunekit_runtime.measuring.latency import LatencyReport, measure
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.timing.kernels import Effort, noise

STRETCHES = 5
_STRETCH = Effort(budget_ms=10_000.0 / STRETCHES, least=3, most=101)


def time_file(path: Path, input_shape: Sequence[int], threads: int) -> LatencyReport:
    """Measure one ONNX file in ONNX Runtime on the CPU: the quietest of 5 stretches, which other work spares most.

    Raises:
        RunnerError: it cannot be run.
    """
    images = noise(input_shape)
    with OrtRunner(path, "cpu", threads) as runner:

        def stretch(runs: int) -> LatencyReport:
            return measure(lambda: runner.run(images), batch=input_shape[0], warmup_runs=max(1, runs // 10), runs=runs)

        runs = _STRETCH.runs(stretch(1).p50_ms)
        return min((stretch(runs) for _ in range(STRETCHES)), key=lambda report: report.p50_ms)


def time_bytes(content: bytes, input_shape: Sequence[int], threads: int) -> LatencyReport:
    """Measure an ONNX file that is given as bytes; see `time_file`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        return time_file(path, input_shape, threads)
