"""One face over both graphs: what is prepared, run and restored, and what each refuses."""

import ctypes
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from prunekit_runtime.errors import ContractError, RunnerError, RunnerUsageError
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.running.picturing import open_picture_model, stacked

CONTRACT = Preprocessing(16, 24, pad_multiple=32)
PICTURE_HW3 = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


class PictureContext:
    """Calls a pixel's strongest colour its class, and its red the confidence."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (-1, -1, -1, 3)
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "pictures" else self.shape[:3]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, _: int) -> bool:
        pictures_NHW3 = self._array("pictures")
        self._array("labels")[...] = pictures_NHW3.argmax(axis=3)
        self._array("confidence")[...] = pictures_NHW3[..., 0]
        return True

    def _array(self, name: str) -> npt.NDArray[np.uint8]:
        shape = self.get_tensor_shape(name)
        memory = (ctypes.c_char * int(np.prod(shape))).from_address(self.addresses[name])
        return np.frombuffer(memoryview(memory), dtype=np.uint8).reshape(shape)


class PictureEngine:
    """Pictures of any size to labels and a confidence."""

    num_io_tensors = 3

    def get_tensor_name(self, number: int) -> str:
        return ("pictures", "labels", "confidence")[number]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "pictures" else "OUTPUT"

    def get_tensor_dtype(self, _: str) -> str:
        return "UINT8"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, -1, -1, 3) if name == "pictures" else (-1, -1, -1)

    def create_execution_context(self) -> PictureContext:
        return PictureContext()


@pytest.fixture
def picture_engine(monkeypatch: pytest.MonkeyPatch, host_engine: Any) -> None:
    """Let the stand-in for TensorRT read an engine that takes pictures out of any plan."""
    runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda _: PictureEngine())
    monkeypatch.setattr(sys.modules["tensorrt"], "Runtime", lambda _: runtime)


@pytest.mark.usefixtures("picture_engine")
def test_an_engine_from_pictures_to_labels_is_given_bytes_and_gives_bytes(plan_path: Path, host_cuda: Any) -> None:
    with open_picture_model(plan_path, CONTRACT) as model:
        assert (model.graph, model.input_shape) == ("labels", (None, None, None, 3))
        inputs = model.prepare(PICTURE_HW3)
        assert (inputs.dtype, inputs.shape) == (np.uint8, (1, 20, 30, 3))
        labels_HW = model.labels(model.compute(inputs), 20, 30)
        np.testing.assert_array_equal(labels_HW, PICTURE_HW3.argmax(axis=2))
        assert model.last_parts_ms == {"copy_in": 0.125, "compute": 0.25, "copy_out": 0.5}
        buffers = sorted(len(held) for held in host_cuda.held.values() if not isinstance(held, str))
        assert buffers == [600, 600, 600, 600, 1800, 1800], "a byte a pixel for each output, three for the input"
    assert not host_cuda.held


@pytest.mark.usefixtures("picture_engine")
def test_all_outputs_of_an_engine_can_be_read(plan_path: Path) -> None:
    with open_picture_model(plan_path, CONTRACT) as model:
        runner: Any = model.runner
        _, confidence_1HW = runner.run_all(PICTURE_HW3[None])
    np.testing.assert_array_equal(confidence_1HW[0], PICTURE_HW3[..., 0])


@pytest.mark.usefixtures("picture_engine")
def test_the_other_graph_is_refused_by_what_it_takes(plan_path: Path) -> None:
    with pytest.raises(RunnerUsageError, match=r"takes pictures, uint8 .* needed that takes prepared images"):
        open_picture_model(plan_path, CONTRACT, graph="logits")


@pytest.mark.usefixtures("host_engine")
def test_an_engine_of_logits_is_given_what_the_contract_prepares(plan_path: Path) -> None:
    with open_picture_model(plan_path, CONTRACT) as model:
        inputs = model.prepare(PICTURE_HW3)
        np.testing.assert_array_equal(inputs, CONTRACT.prepare(PICTURE_HW3))
        logits_1Khw = model.compute(inputs)
        assert model.graph == "logits"
        np.testing.assert_array_equal(model.labels(logits_1Khw, 20, 30), CONTRACT.restore_labels(logits_1Khw, 20, 30))
        logits_1Khw[0, 0, 0, 0] = np.nan
        with pytest.raises(RunnerError, match="not finite"):
            model.labels(logits_1Khw, 20, 30)


@pytest.mark.usefixtures("picture_engine")
@pytest.mark.parametrize("wrong", [PICTURE_HW3.astype(np.float32), PICTURE_HW3[..., :1], PICTURE_HW3[:0]])
def test_what_is_no_picture_is_refused(plan_path: Path, wrong: Any) -> None:
    with open_picture_model(plan_path, CONTRACT) as model, pytest.raises(RunnerError, match="takes pictures, uint8"):
        model.prepare(wrong)


@pytest.mark.usefixtures("picture_engine")
def test_labels_of_another_size_than_the_picture_are_refused(plan_path: Path) -> None:
    with open_picture_model(plan_path, CONTRACT) as model, pytest.raises(ContractError, match="20 x 31"):
        model.labels(model.compute(PICTURE_HW3[None]), 20, 31)


def test_a_batch_that_is_too_small_is_filled_with_its_last_picture() -> None:
    first, second = PICTURE_HW3[None], PICTURE_HW3[None, ::-1]
    np.testing.assert_array_equal(stacked([first, second], 3)[2], second[0])
    assert stacked([first], 1) is first
