"""`prunekit.export`: runs and modules of one's own become the files that `prunekit export` writes."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import prunekit
from prunekit.errors import RunError
from prunekit_export.errors import ExportError

pytest.importorskip("onnxruntime")
CONTRACT = prunekit.Preprocessing(height=32, width=48, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Network(nn.Module):
    """Logits of four classes at half the size, in a dict with a further head."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.head, self.aux = nn.Conv2d(16, classes, 1), nn.Conv2d(16, classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)
        return {"out": self.head(features), "aux": self.aux(features)}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().train()


def test_a_module_is_written_with_its_contract_and_stays_as_it_is(network: nn.Module, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    steps: list[tuple[str, int, int]] = []
    summary = prunekit.export(
        network, tmp_path / "out", preprocessing=CONTRACT, progress=lambda *step: steps.append(step)
    )
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert json.loads((tmp_path / "out" / "preprocessing.json").read_text()) == CONTRACT.to_json()
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert classes["names"] == ["class 0", "class 1", "class 2", "class 3"]
    assert summary.onnx_path == tmp_path / "out" / "model.onnx"
    assert summary.parity.max_rel < 1e-4
    assert ("folding", 0, 0) in steps


def test_a_pruned_module_is_written(network: nn.Module, tmp_path: Path) -> None:
    small = prunekit.prune(network, [torch.randn(2, 3, 32, 48)], align=1)
    names = ["road", "sky", "tree", "car"]
    prunekit.export(small, tmp_path / "out", preprocessing=CONTRACT, class_names=names, size=(64, 96))
    written = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert (written["height"], written["width"]) == (64, 96)
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["names"] == names


def test_what_is_missing_is_asked_for(network: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ExportError, match=r"preprocessing=prunekit\.Preprocessing"):
        prunekit.export(network, out)
    with pytest.raises(ExportError, match="no folder of its own"):
        prunekit.export(network, preprocessing=CONTRACT)
    with pytest.raises(ExportError, match="4 classes, and 1 names"):
        prunekit.export(network, out, preprocessing=CONTRACT, class_names=["road"])
    with pytest.raises(ExportError, match="there is none to export"):
        prunekit.export(network, out, preprocessing=prunekit.Preprocessing(0, 0))
    with pytest.raises(ExportError, match="one channel"):
        prunekit.export(Network(1), out, preprocessing=CONTRACT)
    with pytest.raises(ExportError, match="fp16 needs calibration images"):
        prunekit.export(network, out, preprocessing=CONTRACT, precision="fp16")
    with pytest.raises(RunError, match="does not exist"):
        prunekit.export(tmp_path / "0001-train")
    with pytest.raises(ExportError, match="A run has its own"):
        prunekit.export(tmp_path / "0001-train", preprocessing=CONTRACT)
    assert not out.exists()
