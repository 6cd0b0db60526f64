"""`profile` of ONNX files of others as they are: a mask, several outputs or inputs, open sizes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_export.running import ProfileConfig, profile_models
from prunekit_runtime.errors import PrunekitError

CLI = CliRunner()
QUICK = {"runs": 3, "warmup_runs": 1, "threads": 1}


def write(path: Path, kind: str) -> Path:
    """Write a convolution with the ends that files of others have."""
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    sizes: list[Any] = ["n", 3, "h", "w"] if kind == "open" else [1, 3, 16, 24]
    image, value, nodes = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes), "x", []
    if kind == "last":
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 24, 3])
        nodes.append(helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]))
        value = "planes"
    nodes.append(helper.make_node("Conv", [value, "w"], ["y"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    inputs = [image]
    if kind in ("mask", "open"):
        nodes.append(helper.make_node("ArgMax", ["y"], ["m"], axis=1, keepdims=0))
        outputs = [helper.make_tensor_value_info("m", TensorProto.INT64, None)]
    if kind == "two outputs":
        nodes.append(helper.make_node("Relu", ["y"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    if kind == "two inputs":
        inputs.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]))
        nodes[-1].output[0] = "c"
        nodes.append(helper.make_node("Mul", ["c", "gain"], ["y"]))
    if kind == "text":
        inputs.append(helper.make_tensor_value_info("words", TensorProto.STRING, [1]))
        nodes.append(helper.make_node("Identity", ["words"], ["said"]))
        outputs.append(helper.make_tensor_value_info("said", TensorProto.STRING, [1]))
    graph = helper.make_graph(nodes, "theirs", inputs, outputs, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["mask", "two outputs", "two inputs", "last"])
def test_a_file_of_others_is_measured_as_it_is(tmp_path: Path, kind: str) -> None:
    report = profile_models([write(tmp_path / "theirs.onnx", kind)], ProfileConfig(**QUICK))
    assert (report.height, report.width) == (16, 24)
    assert report.models[0].latency.p50_ms > 0
    assert report.models[0].ran_on.endswith("all inputs and outputs")


def test_open_sizes_are_those_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "theirs.onnx", "open")
    report = profile_models([path], ProfileConfig(**QUICK, batch=2, height=10, width=12))
    assert report.models[0].input_shape == (2, 3, 10, 12)
    with pytest.raises(PrunekitError, match=r"not all sizes are known.*height"):
        profile_models([path], ProfileConfig(**QUICK))


def test_what_cannot_be_made_up_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrunekitError, match=r"words is tensor\(string\)"):
        profile_models([write(tmp_path / "theirs.onnx", "text")], ProfileConfig(**QUICK))


def test_a_file_of_others_is_compared_with_one_of_ours_from_the_command_line(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{kind}.onnx", kind)) for kind in ("mask", "plain")]
    asked = ["profile", paths[0], "--against", paths[1], "--runs", "3", "--warmup", "1", "--json"]
    done = CLI.invoke(app, asked)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["report"]["models"]
    assert [model["input_shape"] for model in told] == [[1, 3, 16, 24]] * 2
    assert told[0]["ran_on"].endswith("all inputs and outputs")
    assert not told[1]["ran_on"].endswith("all inputs and outputs")
