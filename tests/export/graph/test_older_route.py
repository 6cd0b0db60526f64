"""The second way to ONNX: taken where the first one fails at a fixed size, said so, and compared all the same."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

import prunekit
from prunekit_export.errors import ExportError
from prunekit_export.graph import export_onnx
from prunekit_export.parity import parity


class Decides(nn.Module):
    """Asks for values of the image, which torch.export does not follow; all images take the same way."""

    def __init__(self, bound: float = 1e9) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
        self.bound = bound

    def forward(self, images_B3HW: Tensor) -> Tensor:
        logits = self.layers(images_B3HW)
        return -logits if float(images_B3HW.mean()) > self.bound else logits


def test_it_is_taken_where_the_first_fails_and_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Decides().eval()
    report = export_onnx(net, tmp_path / "model.onnx", height=16, width=24, dynamic=False, batch=2)
    assert report.route == "TorchScript"
    assert any("Python" in text for text in report.fixed), "the decision is warned of"
    assert "/" not in "".join(report.fixed), "no path of this machine"
    assert parity(net, tmp_path / "model.onnx", shapes=[(2, 16, 24)] * 2).max_rel < 1e-5
    assert report.opset == 20
    model = onnx.load_model(tmp_path / "model.onnx")
    assert all(node.name and not node.doc_string for node in model.graph.node)


def test_a_decision_that_other_images_take_otherwise_is_found_by_the_comparison(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=r"model\.onnx differs from the network"):
        prunekit.export(Decides(bound=0.0).eval(), tmp_path / "out", preprocessing=prunekit.Preprocessing(16, 24))
    assert not (tmp_path / "out").exists()


def test_the_export_writes_down_which_way_it_took(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {
        "preprocessing": prunekit.Preprocessing(16, 24),
        "precision": "fp16",
        "images": [torch.randn(2, 3, 16, 24)],
    }
    summary = prunekit.export(Decides().eval(), tmp_path / "out", **options)
    assert summary.onnx.route == "TorchScript"
    told = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert told["exporter"] == "TorchScript"
    assert told["fixed"]


def test_open_sizes_and_refusals_take_no_second_way(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch\.export cannot trace"):
        export_onnx(Decides().eval(), tmp_path / "model.onnx", height=16, width=24, dynamic=True)

    class Antialias(nn.Module):
        def forward(self, images_B3HW: Tensor) -> Tensor:
            return nn.functional.interpolate(images_B3HW, scale_factor=0.5, mode="bilinear", antialias=True)

    with pytest.raises(ExportError, match="antialias=False"):
        export_onnx(Antialias(), tmp_path / "model.onnx", height=16, width=24, dynamic=False)
    assert not list(tmp_path.iterdir())


def test_where_both_fail_both_are_told(tmp_path: Path) -> None:
    class Fails(nn.Module):
        def forward(self, images_B3HW: Tensor) -> Tensor:
            if float(images_B3HW.sum()) != 0:
                raise RuntimeError("no images today")
            return images_B3HW

    with pytest.raises(
        ExportError, match=r"torch\.export cannot trace .* \(TorchScript\) fails as well: no images today"
    ):
        export_onnx(Fails(), tmp_path / "model.onnx", height=16, width=24, dynamic=False)
