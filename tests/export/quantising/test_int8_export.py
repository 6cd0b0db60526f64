"""int8 from a network to files: what is written is judged by labels and mIoU, and a file that fails is not there."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunekit
from prunekit_export.errors import ExportError
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.running.ort import OrtRunner

CONTRACT = prunekit.Preprocessing(32, 48, pad_multiple=4)


class Net(nn.Module):
    """A stem, four layers with a residual, a head; its own labels are the truth that int8 is judged by."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in range(4))
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        features = F.relu(self.stem(images_B3HW))
        for layer in self.layers:
            features = features + F.relu(layer(features))
        return F.interpolate(self.head(features), images_B3HW.shape[-2:], mode="bilinear", align_corners=False)


def network(width: int = 16) -> Net:
    torch.manual_seed(0)
    return Net(width).eval()


def pictures(count: int = 6) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 4, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return list(np.clip(coarse + random.normal(0, 10, coarse.shape), 0, 255).astype(np.uint8))


def given(net: Net) -> dict[str, object]:
    """Return what int8 of a network needs: images to calibrate with, and labelled pictures."""
    prepared = [torch.from_numpy(CONTRACT.prepare(picture)) for picture in pictures()]
    with torch.no_grad():
        labels = [net(image).argmax(1)[0].to(torch.uint8).numpy() for image in prepared]
    return {
        "preprocessing": CONTRACT,
        "images": prepared,
        "labelled": list(zip(pictures(), labels, strict=True)),
        "calibration": "minmax",
    }


def test_an_int8_file_is_judged_and_says_what_it_computes_in(tmp_path: Path) -> None:
    net = network()
    summary = prunekit.export(net, tmp_path / "out", precision="int8", max_miou_drop=20, **given(net))
    report = summary.int8
    assert report is not None
    assert report.macs["int8"] > 0.8
    assert len(report.layers.quantised) == 4
    assert {layer.reason for layer in report.layers.kept} == {
        "it has 3 input channels, and int8 pays from 16 on",
        "it gives the logits",
    }
    assert report.reference.miou == pytest.approx(1.0)
    assert report.judged.agreement > 0.9
    assert (report.judged.pictures, report.calibration_images, report.tried) == (6, 6, 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.json",
        "model.int8.onnx",
        "model.onnx",
        "parity.json",
        "preprocessing.json",
        "trtexec.txt",
    ]
    assert json.loads((tmp_path / "out/parity.json").read_text())["int8"]["drop"] == report.drop
    kinds = [node.op_type for node in onnx.load_model(tmp_path / "out/model.int8.onnx").graph.node]
    assert kinds.count("QuantizeLinear") == 4


def test_an_int8_file_that_costs_more_than_allowed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    net = network()
    with pytest.raises(ExportError, match=r"loses .* points of mIoU on 6 validation images .*precision=auto"):
        prunekit.export(net, tmp_path / "out", precision="int8", max_miou_drop=0, **given(net))
    assert not (tmp_path / "out").exists()


def test_auto_keeps_layers_in_fp16_until_the_miou_is_reached(tmp_path: Path) -> None:
    net = network()
    all_int8 = prunekit.export(net, tmp_path / "all", precision="int8", max_miou_drop=100, **given(net)).int8
    assert all_int8 is not None
    assert all_int8.drop is not None
    allowed = 60 * all_int8.drop  # points: a share of 0.6 of what all layers cost
    found = prunekit.export(net, tmp_path / "auto", precision="auto", max_miou_drop=allowed, **given(net)).int8
    assert found is not None
    assert found.drop is not None
    assert 0 < len(found.layers.quantised) < 4
    assert found.drop <= allowed / 100
    assert found.macs["fp16"] > all_int8.macs["fp16"]
    assert [layer.reason for layer in found.layers.kept].count("the mIoU needs it") == 4 - len(found.layers.quantised)


def test_a_network_of_few_channels_is_refused_with_the_reasons(tmp_path: Path) -> None:
    net = network(width=12)
    with pytest.raises(ExportError, match=r"No layer of this network is worth int8.*12 input channels"):
        prunekit.export(net, tmp_path / "out", precision="int8", **given(net))
    assert not (tmp_path / "out").exists()


def test_any_size_and_pictures_to_labels(tmp_path: Path) -> None:
    net = network()
    options = {"dynamic": True, "end2end": True, "max_miou_drop": 20}
    prunekit.export(net, tmp_path / "out", precision="int8", **options, **given(net))
    with OrtRunner(tmp_path / "out/model.int8.labels.onnx", graph="labels") as runner:
        labels_NHW = runner.run(np.stack(pictures(2)))
    assert (labels_NHW.shape, labels_NHW.dtype) == ((2, 32, 48), np.uint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": []}, "needs calibration images"),
        ({"labelled": []}, "needs validation images"),
        ({"calibration": "entrpy"}, "Did you mean"),
        ({"max_miou_drop": -1}, "takes 0 to 100 points"),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence(tmp_path: Path, change: dict[str, object], words: str) -> None:
    net = network()
    with pytest.raises(PrunekitError, match=words):
        prunekit.export(net, tmp_path / "out", precision="int8", **{**given(net), **change})
    assert not (tmp_path / "out").exists()


def test_tensorrt_rtx_takes_the_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    net = network()
    summary = prunekit.export(net, tmp_path / "out", precision="int8", trt=True, max_miou_drop=20, **given(net))
    assert summary.engine is not None
    assert (tmp_path / "out" / "model.int8.plan").stat().st_size > 1000


def test_named_nodes_stay_in_float32_in_fp16_and_in_int8(tmp_path: Path) -> None:
    net = network()
    names = [node.name for node in _written(net, tmp_path / "full", "fp32", ()).graph.node if node.op_type == "Conv"]
    half = _written(net, tmp_path / "half", "fp16", (names[2],))
    low = _written(net, tmp_path / "low", "int8", (names[2],))
    for model in (half, low):
        inferred = onnx.shape_inference.infer_shapes(model).graph
        types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
        kept = {node.name: types.get(node.output[0]) for node in model.graph.node if node.op_type == "Conv"}
        assert kept[names[2]] == onnx.TensorProto.FLOAT
        assert kept[names[1]] == onnx.TensorProto.FLOAT16
    with pytest.raises(ExportError, match=f"no such node.*Did you mean '?{names[2]}"):
        _written(net, tmp_path / "typo", "fp16", (names[2] + "x",))
    with pytest.raises(PrunekitError, match="float32 is asked for"):
        _written(net, tmp_path / "plain", "fp32", (names[2],))


def _written(net: Net, out: Path, precision: str, keep: tuple[str, ...]) -> onnx.ModelProto:
    prunekit.export(net, out, precision=precision, keep_fp32=keep, max_miou_drop=100, **given(net))
    name = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}[precision]
    return onnx.load_model(out / name)
