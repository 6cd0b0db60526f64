"""`check` passes what was exported, and catches each fault that a device has been seen to make."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.helper import make_node

from prunekit_runtime.__main__ import main
from prunekit_runtime.bundle import open_bundle
from prunekit_runtime.checking import Gates, check
from prunekit_runtime.checking.golden import GoldenLogits
from prunekit_runtime.errors import BundleError

GRAPHS = ("labels", "logits")


@pytest.fixture
def copied(bundles, tmp_path, request):
    """Return a bundle of the test's graph that may be changed."""
    shutil.copytree(bundles[request.param], tmp_path / "bundle")
    return tmp_path / "bundle"


both = pytest.mark.parametrize("copied", GRAPHS, indirect=True)


def checked(folder: Path):
    """Return the report of the one model."""
    bundle = open_bundle(folder)
    return check(bundle, bundle.model(), bundle.model().path(folder))


def initializer(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def last_convolution(model):
    return [node for node in model.graph.node if node.op_type == "Conv"][-1]


@both
def test_what_was_exported_passes(copied):
    report = checked(copied)
    assert report.passed, report.failures
    assert report.measured.agreement > 0.999
    assert len(report.measured.class_iou) >= 3
    assert report.measured.miou == pytest.approx(report.measured.expected_miou, abs=1e-3)
    assert (report.measured.logit_error is not None) == (report.graph == "logits")


def swap_channels(model):
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    tensor = initializer(model, node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), tensor.name))


def change_mean(model):
    """Shift what the network sees by a wrong mean, in a graph that normalises inside."""
    tensor = initializer(model, "picture_mean")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) - np.float32(0.25), tensor.name))


def shift_by_half_a_pixel(model):
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Resize" and attribute.name == "coordinate_transformation_mode":
                attribute.s = b"asymmetric"


def swap_classes(model):
    """Exchange the two classes of the head whose places hold the most pixels, road and sky of the scenes."""
    node = last_convolution(model)
    for name in node.input[1:]:
        values = numpy_helper.to_array(initializer(model, name)).copy()
        values[[0, 1]] = values[[1, 0]]
        initializer(model, name).CopyFrom(numpy_helper.from_array(values, name))


def drop_a_layer(model):
    """Leave out an activation in the middle of the network."""
    nodes = [node for node in model.graph.node if node.op_type in ("Relu", "HardSwish")]
    node = nodes[len(nodes) // 2]
    node.op_type = "Identity"


def overflow_in_half(model):
    """Round the head's input, scaled beyond 65504, to fp16, as an fp16 engine would."""
    node = last_convolution(model)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e6), "large"))
    steps = [
        make_node("Mul", [node.input[0], "large"], ["scaled"], name="scaled"),
        make_node("Cast", ["scaled"], ["half"], name="half", to=10),
        make_node("Cast", ["half"], ["float"], name="float", to=1),
        make_node("Div", ["float", "large"], ["unscaled"], name="unscaled"),
    ]
    place = list(model.graph.node).index(node)
    node.input[0] = "unscaled"
    nodes = [*model.graph.node[:place], *steps, *model.graph.node[place:]]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


@both
@pytest.mark.parametrize("fault", [swap_channels, swap_classes, drop_a_layer, overflow_in_half])
def test_a_planted_fault_is_caught(copied, plant, fault):
    plant(copied, fault)
    report = checked(copied)
    assert not report.passed


@pytest.mark.parametrize("copied", ["labels"], indirect=True)
@pytest.mark.parametrize("fault", [change_mean, shift_by_half_a_pixel])
def test_a_fault_of_preprocessing_inside_the_graph_is_caught(copied, plant, fault):
    plant(copied, fault)
    assert not checked(copied).passed


@pytest.mark.parametrize("copied", ["logits"], indirect=True)
@pytest.mark.parametrize("wrong", [{"mean": [0.2, 0.2, 0.9]}, {"channel_order": "bgr"}, {"scale": 1.0}])
def test_a_wrong_contract_is_caught(copied, reseal, wrong):
    path = copied / "preprocessing.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    reseal(copied, path.name)
    assert not checked(copied).passed


@pytest.mark.parametrize("copied", ["logits"], indirect=True)
def test_a_resize_by_half_a_pixel_in_postprocessing_is_caught(copied, monkeypatch):
    from prunekit_runtime import preprocessing

    right = preprocessing._taps

    def shifted(old, new):
        low, high, weight = right(old, new)
        return np.minimum(low + 1, old - 1), np.minimum(high + 1, old - 1), weight

    monkeypatch.setattr(preprocessing, "_taps", shifted)
    assert not checked(copied).passed


@both
def test_a_class_that_is_lost_is_named(copied, plant):
    def lose(model):
        node = last_convolution(model)
        bias = initializer(model, node.input[2])
        values = numpy_helper.to_array(bias).copy()
        values[lost] -= 1e4
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))

    shown = checked(copied).measured.class_iou
    rare = list(shown)[-1]
    lost = open_bundle(copied).classes.names.index(rare)
    plant(copied, lose)
    report = checked(copied)
    assert any(f"class {rare} " in sentence for sentence in report.failures)


@pytest.mark.parametrize("copied", ["labels"], indirect=True)
def test_the_command_writes_a_report_and_ends_with_1_below_a_gate(copied, plant, capsys):
    assert main(["check", "--bundle", str(copied), "--backend", "ort"]) == 0
    assert "passed" in capsys.readouterr().out
    plant(copied, swap_classes)
    assert main(["check", "--bundle", str(copied), "--backend", "ort", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((copied / "reports/check.json").read_text())
    assert not printed["passed"]
    assert printed["checked"][0]["failures"]


@pytest.mark.parametrize("copied", ["labels"], indirect=True)
def test_the_command_never_takes_another_backend_by_itself(copied, capsys):
    code = main(["check", "--bundle", str(copied)])
    assert code != 0
    assert "--backend ort" in capsys.readouterr().err


def test_gates_can_be_set(bundles):
    bundle = open_bundle(bundles["logits"])
    entry = bundle.model()
    assert check(bundle, entry, entry.path(bundle.folder), gates=Gates(agreement=0.5)).gates.agreement == 0.5


def test_golden_logits_of_another_size_are_an_error_and_not_passed_over():
    golden = GoldenLogits(np.ones((3, 4, 6), np.float32), 1.0, 8)
    assert golden.error_of(np.ones((3, 32, 48), np.float32)) == 0
    with pytest.raises(BundleError, match=r"\(3, 64, 48\)"):
        golden.error_of(np.ones((3, 64, 48), np.float32))
