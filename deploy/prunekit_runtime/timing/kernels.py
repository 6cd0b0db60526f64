"""The kernels of a model with their times, from ONNX Runtime's own profile on the CPU."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunekit_runtime.errors import MeasureError
from prunekit_runtime.measuring.latency import measure
from prunekit_runtime.preprocessing import FloatArray
from prunekit_runtime.running.ort import require_onnxruntime

_KERNEL = "_kernel_time"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of a model, fastest of its runs."""

    op: str
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    ms: float

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Kernel":
        """Read what `dataclasses.asdict` gives after a way through JSON.

        Raises:
            MeasureError: a value is missing or of another kind.
        """
        try:
            inputs = tuple(tuple(int(size) for size in shape) for shape in values["inputs"])
            return cls(str(values["op"]), inputs, tuple(int(size) for size in values["output"]), float(values["ms"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MeasureError(f"A measured kernel cannot be read: {error!r}. Measure again.") from error


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often a model is run: until `budget_ms` is spent, within `least` and `most` runs."""

    budget_ms: float
    least: int
    most: int

    def runs(self, once_ms: float) -> int:
        """Return the number of runs for a model that takes `once_ms`."""
        return int(min(self.most, max(self.least, self.budget_ms / max(once_ms, 1e-3))))


def profile_kernels(model: Path | bytes, input_shape: Sequence[int], threads: int, effort: Effort) -> list[Kernel]:
    """Run an ONNX model under ONNX Runtime's profiler on the CPU; return its kernels in the order they ran.

    Raises:
        MeasureError: ONNX Runtime cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, threads, str(Path(folder) / "profile"))
        feed = {session.get_inputs()[0].name: noise(input_shape)}
        first = measure(lambda: session.run(None, feed), batch=1, warmup_runs=0, runs=1)
        for _ in range(effort.runs(first.p50_ms)):
            session.run(None, feed)
        return _kernels(json.loads(Path(session.end_profiling()).read_text()))


def noise(shape: Sequence[int]) -> FloatArray:
    """Return float32 noise of any shape: 4,096 drawn values over and over, since drawing takes longer than running."""
    drawn = np.random.default_rng(0).standard_normal(4096, dtype=np.float32)
    return np.resize(drawn, tuple(shape))


def _session(model: Path | bytes, threads: int, profile: str) -> Any:
    onnxruntime = require_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # fatal only: what matters comes back as an exception
    options.enable_profiling = True
    options.profile_file_prefix = profile
    content = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(content, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class below Exception
        raise MeasureError(f"ONNX Runtime cannot load a layer to be timed: {error}") from error


def _kernels(events: Sequence[Mapping[str, Any]]) -> list[Kernel]:
    """Return the kernels of a profile; the first run of each, which touches memory first, does not count."""
    times_us: dict[str, list[float]] = {}
    rows: dict[str, Mapping[str, Any]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            key = f"{name} {event['args']['node_index']}"
            times_us.setdefault(key, []).append(float(event["dur"]))
            rows[key] = event["args"]
    return [
        Kernel(
            op=str(row["op_name"]),
            inputs=_shapes(row["input_type_shape"]),
            output=next(iter(_shapes(row["output_type_shape"])), ()),
            ms=min(times_us[key][1:] or times_us[key]) * 1e-3,
        )
        for key, row in rows.items()
    ]


def _shapes(rows: Sequence[Mapping[str, Sequence[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(next(iter(row.values()))) for row in rows)
