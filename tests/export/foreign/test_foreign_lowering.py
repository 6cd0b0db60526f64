"""fp16 and int8 of a file that others made, on a data set with labels or on pictures without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from prunekit.errors import PrunekitError
from prunekit.recipe import parse_recipe
from prunekit_export.engine import Profile
from prunekit_export.errors import ExportError
from prunekit_export.foreign import FileConfig, Lowering, OnnxNetwork, export_file
from prunekit_export.running import open_runner
from prunekit_runtime.running.ort import OrtRunner

CLASSES = 5


def write_file(
    path: Path, *, batch: Any = 1, classes: int = CLASSES, gain: float = 1.0, bytes_in: bool = False
) -> Path:
    """Write convolutions with 16 channels between images (N, 3, 32, 48) and logits."""
    random = np.random.default_rng(0)
    weights, nodes, value = [], [], "x"
    if bytes_in:
        nodes.append(helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT, name="as_float"))
        weights.append(numpy_helper.from_array(np.float32([1 / 255]), "to_one"))
        nodes.append(helper.make_node("Mul", ["pixels", "to_one"], ["scaled"], name="scaling"))
        value = "scaled"
    for place, (inputs, outputs) in enumerate([(3, 16), (16, 16), (16, 16), (16, classes)]):
        scale = (gain if place == 1 else 1 / gain if place == 2 else 1) * (inputs * 9) ** -0.5
        weight = random.standard_normal((outputs, inputs, 3, 3)) * scale
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{place}"))
        nodes.append(helper.make_node("Conv", [value, f"w{place}"], [f"c{place}"], pads=[1] * 4, name=f"conv{place}"))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"r{place}"], name=f"relu{place}"))
        value = f"r{place}"
    nodes[-1] = helper.make_node("Identity", [f"c{place}"], ["y"], name="end")
    kind = TensorProto.UINT8 if bytes_in else TensorProto.FLOAT
    image = helper.make_tensor_value_info("x", kind, [batch, 3, 32, 48])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes, 32, 48])
    graph = helper.make_graph(nodes, "theirs", [image], [result], weights)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 256, (5, 6, 3)).repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)
        Image.fromarray(coarse).save(folder / f"{number}.png")
    return folder


def shapes(**settings: object) -> Any:
    return parse_recipe({"data": {"name": "shapes", "height": 32, "width": 48, "val_images": 4, **settings}}).data


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "auto"])
@pytest.mark.parametrize("bytes_in", [False, True])
def test_every_precision_is_calibrated_on_pictures_alone(
    tmp_path: Path, pictures: Path, precision: Any, bytes_in: bool
) -> None:
    lowering = Lowering(precision=precision, pictures=pictures, calibration="minmax")
    source = write_file(tmp_path / "theirs.onnx", bytes_in=bytes_in)
    outcome = export_file(source, FileConfig(lowering=lowering), tmp_path / "out")
    low = outcome.half or outcome.int8
    assert low is not None
    name = f"model.{'int8' if precision == 'auto' else precision}.onnx"
    assert low.onnx.path == tmp_path / "out" / name
    assert sorted(outcome.files) == sorted((tmp_path / "out").iterdir())
    cost = outcome.half.cost if outcome.half else outcome.int8.report.cost
    assert cost.judged.miou is None, "no label is known"
    assert cost.judged.agreement > 0.95
    assert cost.judged.pictures == 3
    macs = outcome.half.parity.macs if outcome.half else outcome.int8.report.macs
    assert macs["int8" if precision == "auto" else precision] > 0.5
    image = np.random.default_rng(1).uniform(0, 200, (1, 3, 32, 48)).astype(np.float32)
    with OrtRunner(outcome.onnx.path) as full, open_runner(low.onnx.path) as lower:
        expected, got = full.run(image), lower.run(image)
    assert np.mean(expected.argmax(1) == got.argmax(1)) > 0.9
    told = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert told["source"]["file"] == "theirs.onnx"
    assert (told["half"] is None) == (precision in ("int8", "auto"))
    assert name in (tmp_path / "out" / "trtexec.txt").read_text()


def test_a_data_set_gives_the_miou(tmp_path: Path) -> None:
    data = shapes()
    from prunekit.data.registry import open_dataset

    classes = len(open_dataset(data, "val").classes)
    source = write_file(tmp_path / "theirs.onnx", classes=classes)
    lowering = Lowering(precision="int8", data=data, calibration="minmax", images=8, max_drop=1)
    report = export_file(source, FileConfig(lowering=lowering), tmp_path / "out").int8
    assert report is not None
    assert report.report.reference.miou is not None
    assert report.report.calibration_images == 8
    assert report.report.judged.pictures == 4


def test_a_data_set_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    lowering = Lowering(precision="fp16", data=shapes())
    with pytest.raises(PrunekitError, match="The file has 11 classes, the data set"):
        export_file(write_file(tmp_path / "theirs.onnx", classes=11), FileConfig(lowering=lowering), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_too_far_off_in_fp16_is_refused(tmp_path: Path, pictures: Path) -> None:
    source = write_file(tmp_path / "theirs.onnx", gain=1e6)
    with pytest.raises(ExportError, match=r"exceed what fp16 holds|relative error"):
        export_file(source, FileConfig(lowering=Lowering(precision="fp16", pictures=pictures)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nodes_are_kept_by_name(tmp_path: Path, pictures: Path) -> None:
    source = write_file(tmp_path / "theirs.onnx", batch=2)
    lowering = Lowering(precision="fp16", pictures=pictures, keep_fp32=("conv3",))
    half = export_file(source, FileConfig(lowering=lowering), tmp_path / "out").half
    assert half is not None
    assert 0 < half.parity.macs["fp32"] < 0.5


def test_one_picture_is_too_few(tmp_path: Path, pictures: Path) -> None:
    for path in list(pictures.iterdir())[1:]:
        path.unlink()
    lowering = Lowering(precision="fp16", pictures=pictures)
    with pytest.raises(PrunekitError, match="one picture"):
        export_file(write_file(tmp_path / "theirs.onnx"), FileConfig(lowering=lowering), tmp_path / "out")


def test_images_are_asked_for() -> None:
    with pytest.raises(PrunekitError, match="folder of pictures"):
        Lowering(precision="int8")


def test_a_file_stands_for_a_network(tmp_path: Path) -> None:
    network = OnnxNetwork(onnx.load_model(write_file(tmp_path / "theirs.onnx")))
    images = torch.randn(1, 3, 32, 48)
    assert network(images).shape == (1, CLASSES, 32, 48)
    with pytest.raises(RuntimeError, match="float32"):
        network(images.double())
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 3, 8, 8))


def test_sizes_that_the_file_does_not_take_are_told_before_the_work(tmp_path: Path) -> None:
    said: list[str] = []
    sizes = Profile((1, 3, 16, 24), (1, 3, 32, 48), (1, 3, 64, 96))
    source = write_file(tmp_path / "theirs.onnx")
    with pytest.raises(PrunekitError, match=r"Axis 2 .* 16, 32, 64; the file asks for 32 three times"):
        export_file(source, FileConfig(profile=sizes), tmp_path / "out", said.append)
    assert said == ["reading the file"]
    assert not (tmp_path / "out").exists()
