"""Engines built for a host that prunes to a latency, with the builder's stand-in: our calls, not NVIDIA's code.

No engine was built by TensorRT in these tests, and none was run.
"""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.building import machine
from prunekit_runtime.errors import BuildError, BuildUsageError
from prunekit_runtime.measuring.latency import LatencyReport, summarise
from prunekit_runtime.timing import engines
from prunekit_runtime.timing.engines import EngineStopwatch
from prunekit_runtime.timing.frames import Frame, read_frame, write_frame
from prunekit_runtime.timing.service import serve

SHAPE = (1, 3, 64, 96)
MODEL = json.dumps({"shape": SHAPE, "layers": [["conv", "CONVOLUTION", "FLOAT"]]}).encode()  # as the stand-in reads


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the plans that are timed; each takes 2 ms."""
    plans: list[bytes] = []

    def time_plan(plan: Path, input_shape: tuple[int, ...]) -> LatencyReport:
        plans.append(plan.read_bytes())
        return summarise([2.0] * 3, batch=input_shape[0], warmup_runs=0)

    monkeypatch.setattr(engines, "time_plan", time_plan)
    return plans


def answers(*requests: Frame) -> list[Any]:
    asked, told = io.BytesIO(), io.BytesIO()
    for request in requests:
        write_frame(asked, request)
    asked.seek(0)
    assert serve(EngineStopwatch(), asked, told) == len(requests)
    told.seek(0)
    return [frame.header for frame in iter(lambda: read_frame(told), None)]


def test_an_engine_is_built_at_the_size_of_its_request_and_timed(world: Any, timed: list[bytes]) -> None:
    whole = Frame({"do": "whole", "input_shape": list(SHAPE)}, MODEL)
    described, first, second = answers(Frame({"do": "describe"}), whole, whole)
    assert described["runtime"] == "tensorrt 10.3.0"
    assert (described["device"]["gpu"], described["device"]["gpu_driver"]) == ("Orin", "540.4.0")
    assert LatencyReport.from_json(first["report"]).p50_ms == 2.0 == second["report"]["p50_ms"]
    assert len(timed) == 2
    assert all(plan.startswith(b"ftrt") for plan in timed)
    shapes = world.configs[0].profiles[0]
    assert (shapes.minimum, shapes.optimum, shapes.maximum) == (SHAPE,) * 3
    assert "TF32" not in world.configs[0].flags


def test_timings_of_one_engine_are_handed_to_the_next(world: Any, timed: list[bytes]) -> None:
    stopwatch = EngineStopwatch()
    for _ in range(2):
        stopwatch.whole(MODEL, SHAPE)
    assert [config.cache.content for config in world.configs] == [b"", b"timings of Orin"]
    assert world.builds == len(timed) == 2


def test_a_layer_that_does_not_build_is_an_answer_in_words_and_the_next_is_taken(
    world: Any, timed: list[bytes]
) -> None:
    world.parser_error = "no such op"
    whole = Frame({"do": "whole", "input_shape": list(SHAPE)}, MODEL)
    refused, described = answers(whole, Frame({"do": "describe"}))
    assert "cannot read the model to be timed" in refused["error"]
    assert described["runtime"] == "tensorrt 10.3.0"
    assert not timed


def test_kernels_are_not_told_by_engines(world: Any) -> None:
    effort = {"budget_ms": 2, "least": 1, "most": 2}
    (told,) = answers(Frame({"do": "kernels", "input_shape": list(SHAPE), **effort}, MODEL))
    assert "does not tell the times of kernels" in told["error"]


def test_without_a_gpu_nothing_is_served(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from prunekit_runtime.running.gpu import Gpu

    monkeypatch.setattr(machine, "describe_gpu", lambda _: Gpu(missing="the CUDA driver is not here"))
    with pytest.raises(BuildUsageError, match="No usable NVIDIA GPU"):
        EngineStopwatch()


def test_a_failed_build_says_tensorrts_own_words(world: Any) -> None:
    world.fails_to_build = True
    with pytest.raises(BuildError, match="Could not find any implementation"):
        EngineStopwatch().whole(MODEL, SHAPE)
