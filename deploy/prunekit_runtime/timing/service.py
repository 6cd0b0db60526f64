"""The device's side: requests come one after the other, each is answered before the next is read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol, cast

from prunekit_runtime.errors import MeasureError, PrunekitError
from prunekit_runtime.measuring.latency import LatencyReport
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.ort import require_onnxruntime
from prunekit_runtime.timing.frames import Frame, read_frame, write_frame
from prunekit_runtime.timing.kernels import Effort, Kernel, profile_kernels
from prunekit_runtime.timing.whole import time_bytes

MAX_AXIS = 1 << 24
MAX_RUNS = 10**5


class Stopwatch(Protocol):
    """What times whole models in one runtime, on this machine or on a device."""

    @property
    def runtime(self) -> str:
        """Name and version."""
        ...

    def whole(self, model: bytes, input_shape: tuple[int, ...]) -> LatencyReport:
        """Time an ONNX model that is given as bytes."""
        ...


class ServedStopwatch(Stopwatch, Protocol):
    """What is served to a host, which has to know what its times hold for."""

    def describe(self) -> dict[str, Any]:
        """Return what the machine tells of itself."""
        ...


class KernelStopwatch(Stopwatch, Protocol):
    """What tells the times of single kernels too, as ONNX Runtime does."""

    def kernels(self, model: bytes, input_shape: tuple[int, ...], effort: Effort) -> list[Kernel]:
        """Return the kernels of a model with their times."""
        ...


@dataclasses.dataclass(frozen=True)
class OrtStopwatch:
    """ONNX Runtime on the CPU; `threads` 0 leaves the number to it."""

    threads: int = 1

    @property
    def runtime(self) -> str:
        """Name and version.

        Raises:
            RunnerError: ONNX Runtime is missing.
        """
        return f"onnxruntime {require_onnxruntime().__version__} CPUExecutionProvider"

    def describe(self) -> dict[str, Any]:
        """Return what the machine tells of itself."""
        return describe_device()

    def kernels(self, model: bytes, input_shape: tuple[int, ...], effort: Effort) -> list[Kernel]:
        """Return the kernels of a model with their times; see `profile_kernels`."""
        return profile_kernels(model, input_shape, self.threads, effort)

    def whole(self, model: bytes, input_shape: tuple[int, ...]) -> LatencyReport:
        """Time a whole model; see `time_bytes`."""
        return time_bytes(model, input_shape, self.threads)


def serve(stopwatch: ServedStopwatch, requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer requests until there are no more; return how many were answered.

    A request that cannot be followed is answered with an error, in words; the next one is read all the same.

    Raises:
        MeasureError: the stream itself is damaged.
    """
    does: dict[str, Callable[[Frame], dict[str, Any]]] = {
        "describe": lambda _: {"runtime": stopwatch.runtime, "device": stopwatch.describe()},
        "kernels": lambda frame: _kernels(stopwatch, frame),
        "whole": lambda frame: _whole(stopwatch, frame),
    }
    count = 0
    while (frame := read_frame(requests)) is not None:
        write_frame(answers, Frame(_answer(does, frame)))
        count += 1
    return count


def _answer(does: Mapping[str, Callable[[Frame], dict[str, Any]]], frame: Frame) -> dict[str, Any]:
    wanted = frame.header.get("do")
    known = does.get(wanted) if isinstance(wanted, str) else None
    if known is None:
        return {"error": f"This device's runtime does not know the request {str(wanted)[:40]!r}. Copy it there again."}
    try:
        return known(frame)
    except PrunekitError as error:
        return {"error": str(error)}


def _kernels(stopwatch: Stopwatch, frame: Frame) -> dict[str, Any]:
    if not isinstance(stopwatch, OrtStopwatch):
        raise MeasureError(f"{stopwatch.runtime} does not tell the times of kernels. Time whole models.")
    budget_ms, least, most = (_number(frame, name) for name in ("budget_ms", "least", "most"))
    effort = Effort(budget_ms, int(least), int(most))
    found = stopwatch.kernels(frame.payload, _shape(frame), effort)
    return {"kernels": [dataclasses.asdict(kernel) for kernel in found]}


def _whole(stopwatch: Stopwatch, frame: Frame) -> dict[str, Any]:
    return {"report": stopwatch.whole(frame.payload, _shape(frame)).to_json()}


def _shape(frame: Frame) -> tuple[int, ...]:
    value = frame.header.get("input_shape")
    axes: list[object] = cast("list[object]", value) if isinstance(value, list) else []
    if not 1 <= len(axes) <= 8 or not all(isinstance(axis, int) and 1 <= axis <= MAX_AXIS for axis in axes):
        raise MeasureError(
            f"A timing request has the input shape {str(value)[:80]}. Give 1 to 8 whole numbers above 0."
        )
    return tuple(cast("list[int]", axes))


def _number(frame: Frame, name: str) -> float:
    value = frame.header.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= MAX_RUNS:
        raise MeasureError(f"A timing request has {name} {str(value)[:40]}. Give a number from 1 to {MAX_RUNS}.")
    return value
