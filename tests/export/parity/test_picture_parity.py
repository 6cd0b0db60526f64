"""A file from pictures to labels is compared with the file of logits that it was made from, and a wrong one refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.graph import PicturePass, save_onnx
from prunekit_export.parity import picture_parity
from prunekit_export.pipeline import export_into
from prunekit_export.request import ExportRequest
from prunekit_export.staging import staged
from prunekit_export.workflow import ExportConfig
from prunekit_runtime.preprocessing import Preprocessing, resize_bilinear
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.running.picturing import PictureModel

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CONTRACT = Preprocessing(32, 48)


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Return two pictures of coloured patches."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (2, 3, 4, 6)).astype(np.float32)
    return [resize_bilinear(each, height, width).astype(np.uint8).transpose(1, 2, 0) for each in coarse]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a network with a file from pictures to labels, 40 x 56."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
    request = ExportRequest(
        network,
        32,
        48,
        CONTRACT,
        [f"class {number}" for number in range(5)],
        [(number, number, number) for number in range(5)],
        pictures=pictures(40, 56),
        end2end=True,
    )
    folder = tmp_path_factory.mktemp("exported") / "out"
    with staged(folder) as stage:
        return export_into(stage, request)


def test_an_export_writes_and_compares_it_at_the_size_of_the_pictures(exported):
    names = [path.name for path in exported.files]
    assert names == [
        "model.onnx",
        "preprocessing.json",
        "classes.json",
        "parity.json",
        "trtexec.txt",
        "model.labels.onnx",
    ]
    assert all(path.exists() for path in exported.files)
    (report,) = exported.labels
    assert (report.sizes, report.real, report.decided_agreement) == (((40, 56),), 2, 1.0)
    assert json.loads((exported.out_dir / "parity.json").read_text())["labels"][0]["file"] == "model.labels.onnx"
    with OrtRunner(exported.out_dir / "model.labels.onnx", graph="labels") as runner:
        assert runner.input_shape == (1, 40, 56, 3)


def test_another_mean_channel_order_or_size_inside_is_refused(exported, tmp_path):
    model = onnx.load_model(exported.out_dir / "model.onnx")
    for number, wrong in enumerate(({"mean": (0.2, 0.2, 0.9)}, {"channel_order": "bgr"}, {"scale": 1.0})):
        path = tmp_path / f"{number}.labels.onnx"
        save_onnx(PicturePass(dataclasses.replace(CONTRACT, **wrong), (40, 56))(model).model, path)
        with pytest.raises(ExportError, match="does not give the labels"):
            picture_parity(exported.out_dir / "model.onnx", path, CONTRACT, pictures(40, 56), [(40, 56)])


def test_a_resize_that_is_half_a_pixel_off_is_refused(exported, tmp_path):
    model = onnx.load_model(exported.out_dir / "model.labels.onnx")
    for node in model.graph.node:
        if node.op_type == "Resize":
            node.attribute.remove(
                next(each for each in node.attribute if each.name == "coordinate_transformation_mode")
            )
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    save_onnx(model, tmp_path / "shifted.labels.onnx")
    with pytest.raises(ExportError, match="does not give the labels"):
        picture_parity(
            exported.out_dir / "model.onnx", tmp_path / "shifted.labels.onnx", CONTRACT, pictures(40, 56), [(40, 56)]
        )


def test_the_file_is_not_taken_where_logits_are_needed(exported):
    with pytest.raises(Exception, match="takes pictures, uint8"):
        OrtRunner(exported.out_dir / "model.labels.onnx")


def test_it_labels_as_the_file_of_logits(exported):
    picture = pictures(40, 56)[1]
    with (
        OrtRunner(exported.out_dir / "model.onnx") as apart,
        OrtRunner(exported.out_dir / "model.labels.onnx", graph="labels") as inside,
    ):
        models = PictureModel(apart, CONTRACT), PictureModel(inside, CONTRACT)
        expected, got = (model.labels(model.compute(model.prepare(picture)), 40, 56) for model in models)
    assert (expected == got).mean() > 0.999


def test_the_report_says_how_far_logits_are_and_how_many_pixels_that_can_turn(exported):
    (report,) = exported.labels
    assert (report.graph, report.parts, report.confidence) == ("labels", "model.onnx", False)
    assert 0 < report.max_rel < 1e-5
    assert report.tied_share < 1e-3
    assert report.untied_agreement == 1
    assert report.chosen


def test_labels_that_are_not_those_of_the_largest_logit_are_refused(exported, tmp_path):
    model = onnx.load_model(exported.out_dir / "model.labels.onnx")
    [best] = [node for node in model.graph.node if node.op_type == "ArgMax"]
    best.op_type = "ArgMin"
    save_onnx(model, tmp_path / "worst.labels.onnx")
    with pytest.raises(ExportError, match="does not choose the class of the largest logit"):
        picture_parity(exported.out_dir / "model.onnx", tmp_path / "worst.labels.onnx", CONTRACT, [], [(40, 56)])


def test_a_confidence_that_is_not_the_share_of_the_best_class_is_refused(exported, tmp_path):
    model = PicturePass(CONTRACT, (40, 56), confidence=True)(onnx.load_model(exported.out_dir / "model.onnx")).model
    save_onnx(model, tmp_path / "right.labels.onnx")
    files = exported.out_dir / "model.onnx", tmp_path / "right.labels.onnx"
    assert picture_parity(*files, CONTRACT, pictures(40, 56), [(40, 56)]).confidence
    [largest] = [node for node in model.graph.node if node.op_type == "ReduceMax"]
    largest.op_type = "ReduceMin"
    save_onnx(model, tmp_path / "wrong.labels.onnx")
    with pytest.raises(ExportError, match="does not choose the class of the largest logit"):
        picture_parity(files[0], tmp_path / "wrong.labels.onnx", CONTRACT, [], [(40, 56)])


def test_the_pictures_of_a_batch_are_compared_each(exported, tmp_path):
    """A file that mixes up its pictures would pass with one picture repeated."""
    model = onnx.load_model(exported.out_dir / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    model.graph.ClearField("value_info")
    save_onnx(model, tmp_path / "model.onnx")
    wrapped = PicturePass(CONTRACT, (40, 56))(model).model
    save_onnx(wrapped, tmp_path / "right.labels.onnx")
    picture_parity(tmp_path / "model.onnx", tmp_path / "right.labels.onnx", CONTRACT, pictures(40, 56), [(40, 56)])
    first = next(node for node in wrapped.graph.node if node.op_type == "Transpose")
    turned = onnx.helper.make_node("Gather", [first.input[0], "turned"], ["turned_pictures"], axis=0)
    first.input[0] = "turned_pictures"
    wrapped.graph.node.insert(1, turned)
    wrapped.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 0]), "turned"))
    save_onnx(wrapped, tmp_path / "turned.labels.onnx")
    with pytest.raises(ExportError, match="relative error of the logits"):
        picture_parity(tmp_path / "model.onnx", tmp_path / "turned.labels.onnx", CONTRACT, [], [(40, 56)])


@pytest.mark.parametrize("wrong", [{"confidence": True}, {"picture_size": (8, 8)}, {"picture_size": "any"}])
def test_options_of_such_a_file_without_it_are_refused(wrong):
    with pytest.raises(ExportUsageError, match="end2end"):
        ExportConfig(**wrong)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ExportUsageError, match="sides of 1 to"):
        ExportConfig(end2end=True, picture_size=(0, 8))
