"""fp16 is judged by mIoU where labels are known, and refused by what was allowed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import prunekit
from prunekit_export.errors import ExportError

CONTRACT = prunekit.Preprocessing(32, 48)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, 1, 1))

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return self.layers(images_B3HW)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net().eval()


def given(net: Net, count: int = 8) -> dict[str, object]:
    """Return images, and pictures with the labels that the network itself gives in float32."""
    drawn = np.random.default_rng(0).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8)
    prepared = [torch.from_numpy(CONTRACT.prepare(picture)) for picture in drawn]
    with torch.no_grad():
        labels = [net(image).argmax(1)[0].to(torch.uint8).numpy() for image in prepared]
    return {"preprocessing": CONTRACT, "images": prepared, "labelled": list(zip(drawn, labels, strict=True))}


def test_what_half_costs_is_measured_and_written_down(net: Net, tmp_path: Path) -> None:
    cost = prunekit.export(net, tmp_path / "out", precision="fp16", **given(net)).half_cost
    assert cost is not None
    assert cost.reference.miou == 1
    assert cost.judged.miou is not None
    assert 0.99 < cost.judged.miou < 1, "labels of random noise turn somewhere when their logits are rounded"
    assert cost.drop == pytest.approx(1 - cost.judged.miou)
    assert (cost.file, cost.judged.pictures) == ("model.fp16.onnx", 8)
    written = json.loads((tmp_path / "out" / "parity.json").read_text())["half"]
    assert written["drop"] == pytest.approx(cost.drop)
    assert not list((tmp_path / "out").glob("trial*"))


def test_a_file_that_loses_more_than_it_may_is_refused_and_not_there(net: Net, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"model\.fp16\.onnx loses 0\.\d+ points of mIoU on 8 validation images"
    ) as told:
        prunekit.export(net, tmp_path / "out", precision="fp16", max_miou_drop=0, **given(net))
    assert "keep_fp32" in str(told.value)
    assert not (tmp_path / "out").exists()


def test_without_labels_fp16_is_written_and_its_cost_not_known(net: Net, tmp_path: Path) -> None:
    known = {key: value for key, value in given(net).items() if key != "labelled"}
    assert prunekit.export(net, tmp_path / "out", precision="fp16", **known).half_cost is None
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["half"] is None
