"""`prunekit export FILE.onnx`, from the command line to what `profile` makes of the result."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from prunekit_cli.main import app

CLI = CliRunner()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["aux"])]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 24])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 16, 24]) for name in ("y", "aux")]
    graph = helper.make_graph(nodes, "g", [image], results, [weight])
    path = tmp_path / "network.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_file_is_exported_and_profiled(network: Path) -> None:
    ends = ["--mean", ".5,.5,.5", "--std", "1,1,1", "--channels", "bgr", "--scale", "0.5"]
    done = CLI.invoke(app, ["export", str(network), "--output", "y", *ends, "--json"])
    assert done.exit_code == 0, done.output
    made = network.with_name("network-export")
    contract = json.loads((made / "preprocessing.json").read_text())
    assert (contract["mean"], contract["std"]) == ([0.5] * 3, [1.0] * 3)
    assert (contract["channel_order"], contract["scale"]) == ("bgr", 0.5)
    profiled = CLI.invoke(app, ["profile", str(made / "model.onnx"), "--runs", "3", "--warmup", "1", "--json"])
    assert profiled.exit_code == 0, profiled.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--output"),
        (["--output", "z"], "no output z"),
        (["--output", "y", "--precision", "fp16"], "--data NAME --root DIR"),
        (["--output", "y", "--precision", "fp16", "--classes", "c.toml"], "--data folder"),
        (["--output", "y", "--data", "shapes"], "--precision fp16"),
        (["--output", "y", "--end2end"], "--end2end"),
        (["--output", "y", "--root", "data"], "--root"),
        (["--output", "y", "--trust-code"], "--trust-code"),
        (["--output", "y", "--channels", "gbr"], "--channels"),
        (["--output", "y", "--mean", "1,2"], "three numbers"),
        (["--output", "y", "--height", "8", "--width", "8"], "8 x 8"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_written(network: Path, flags: list[str], said: str) -> None:
    done = CLI.invoke(app, ["export", str(network), *flags])
    assert done.exit_code == 2
    assert said in done.output
    assert not network.with_name("network-export").exists()


def test_a_run_knows_its_own_mean(tmp_path: Path) -> None:
    done = CLI.invoke(app, ["export", str(tmp_path), "--mean", "0,0,0"])
    assert done.exit_code == 2
    assert "--mean" in done.output


def test_a_missing_file_is_missed_by_name(tmp_path: Path) -> None:
    done = CLI.invoke(app, ["export", str(tmp_path / "gone.onnx"), "--mean", "0,0,0"])
    assert done.exit_code == 2
    assert "does not exist" in done.output


def test_a_precision_is_calibrated_on_the_pictures_of_a_folder(network: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    asked = ["export", str(network), "--output", "y", "--precision", "fp16", "--root", str(photos)]
    done = CLI.invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "model.fp16.onnx on 2 images: " in done.output
    assert (network.with_name("network-export") / "model.fp16.onnx").is_file()


def test_classes_of_another_number_are_told(network: Path) -> None:
    done = CLI.invoke(app, ["export", str(network), "--output", "y", "--precision", "int8", "--data", "shapes"])
    assert done.exit_code == 2
    assert "The file has 4 classes, the data set" in done.output
    assert not network.with_name("network-export").exists()
