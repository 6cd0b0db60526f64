"""CUDA graphs of engines, against a CUDA made of host memory: the same logits, captured once a shape, nothing left."""

import ctypes
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunekit_runtime.errors import RunnerError, RunnerUsageError
from prunekit_runtime.running.cuda import Cuda
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.trt import TrtRunner

SHAPES = ((1, 8, 8), (1, 16, 16), (2, 8, 24))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=8))
def test_any_sequence_of_shapes_gives_what_it_gives_without(
    plan_path: Path, host_engine: Any, host_cuda: Any, weights_K3: Any, shapes: list[tuple[int, int, int]]
) -> None:
    launches = host_cuda.launches
    with TrtRunner(plan_path, cuda_graph=True) as runner:
        for number, (batch, height, width) in enumerate(shapes):
            images = np.random.default_rng(number).standard_normal((batch, 3, height, width), dtype=np.float32)
            expected = np.einsum("kc,nchw->nkhw", weights_K3, images)
            np.testing.assert_allclose(runner.run(images), expected, rtol=1e-6, atol=1e-6)
    repeated = sum(first == second for first, second in itertools.pairwise(shapes))
    assert host_cuda.launches - launches == repeated
    assert not host_cuda.held


def test_without_the_option_nothing_is_captured(plan_path: Path, host_engine: Any, host_cuda: Any) -> None:
    with TrtRunner(plan_path) as runner:
        for _ in range(3):
            runner.run(np.zeros((1, 3, 8, 8), np.float32))
    assert host_cuda.launches == 0


def test_an_engine_that_cannot_be_captured_says_so_and_leaves_nothing(
    plan_path: Path, host_engine: Any, host_cuda: Any
) -> None:
    with TrtRunner(plan_path, cuda_graph=True) as runner:
        images = np.zeros((1, 3, 8, 8), np.float32)
        runner.run(images)
        host_engine.works = False
        with pytest.raises(RunnerError, match=r"cannot be run as a CUDA graph.*Leave out --cuda-graph"):
            runner.run(images)
        assert host_cuda.capturing is None
        host_engine.works = True
        runner.run(images)
    assert not host_cuda.held


def test_an_onnx_file_has_no_kernels_to_launch(write_onnx: Any) -> None:
    with pytest.raises(RunnerUsageError, match="Leave out --cuda-graph"):
        open_runner(write_onnx(), cuda_graph=True)


class Library:
    """Keeps the calls of the CUDA runtime, and answers as it does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.status = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            if name == "cudaGetErrorString":
                return b"operation failed due to a previous error during capture"
            out = {"cudaStreamEndCapture": 1, "cudaGraphInstantiateWithFlags": 0}.get(name)
            if out is not None:
                arguments[out]._obj.value = 77
            return self.status.get(name, 0)

        setattr(self, name, call)
        return call


def test_the_calls_are_those_of_the_cuda_runtime() -> None:
    library = Library()
    cuda = Cuda(library)
    cuda.begin_capture(5)
    assert cuda.end_capture(5) == 77
    assert cuda.executable(77) == 77
    cuda.launch(77, 5)
    cuda.free_graph(77)
    cuda.free_executable(77)
    assert [name for name, _ in library.calls] == [
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiateWithFlags",
        "cudaGraphLaunch",
        "cudaGraphDestroy",
        "cudaGraphExecDestroy",
    ]
    assert library.calls[0][1] == (5, 1)
    assert isinstance(library.calls[2][1][2], ctypes.c_ulonglong)
    assert library.calls[3][1] == (77, 5)


def test_a_capture_that_failed_is_ended() -> None:
    library = Library()
    library.status["cudaStreamEndCapture"] = 901
    Cuda(library).abandon_capture(5)
    assert "cudaStreamEndCapture" in [name for name, _ in library.calls]
