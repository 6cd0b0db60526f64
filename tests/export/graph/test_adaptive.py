"""Adaptive average pooling in files of open size: as torch at every size, also in fp16 and for TensorRT-RTX."""

import importlib.util
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import prunekit
from prunekit_export.engine import EngineOptions
from prunekit_export.errors import ExportError
from prunekit_export.graph import export_onnx
from prunekit_export.graph.adaptive import SizedPooling, pooled
from prunekit_export.parity import parity

SIDES = st.integers(1, 40)
BINS = st.one_of(st.none(), st.integers(1, 7))


class Pyramid(nn.Module):
    """Pyramid pooling (PSPNet): bins of 1, 2, 3 and 6, by modules and by the function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(bins) for bins in (1, 2, 3))
        self.head = nn.Conv2d(16 * 5, 4, 1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        features = F.relu(self.stem(images_B3HW))
        levels = [pool(features) for pool in self.pools] + [F.adaptive_avg_pool2d(features, (6, None))]
        size = features.shape[-2:]
        grown = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]
        logits = self.head(torch.cat([features, *grown], dim=1))
        return F.interpolate(logits, images_B3HW.shape[-2:], mode="bilinear", align_corners=False)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(height=SIDES, width=SIDES, rows=BINS, columns=BINS, seed=st.integers(0, 2**31))
def test_windows_are_torchs(height: int, width: int, rows: int | None, columns: int | None, seed: int) -> None:
    images = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = F.adaptive_avg_pool2d(images, (rows, columns))
    torch.testing.assert_close(pooled(images, rows, columns), expected, rtol=0, atol=1e-12)
    with SizedPooling():
        torch.testing.assert_close(F.adaptive_avg_pool2d(images, (rows, columns)), expected, rtol=0, atol=1e-12)
        square = nn.AdaptiveAvgPool2d(output_size=3)(images)
    torch.testing.assert_close(square, F.adaptive_avg_pool2d(images, 3), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    torch.manual_seed(0)
    return Pyramid().eval()


def test_a_file_of_open_size_pools_right_at_every_size(pyramid: Pyramid, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(pyramid, path, height=32, width=48, dynamic=True)
    shapes = [(1, 32, 48), (2, 33, 47), (1, 95, 14), (3, 7, 5), (1, 128, 200)]
    report = parity(pyramid, path, shapes=shapes)
    assert report.max_rel < 1e-5
    assert "AveragePool" not in {node.op_type for node in onnx.load_model(path).graph.node}


def test_at_a_fixed_size_the_operator_stays(pyramid: Pyramid, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(pyramid, path, height=24, width=48, dynamic=False)
    assert "AveragePool" in {node.op_type for node in onnx.load_model(path).graph.node}


def test_fp16_of_it(pyramid: Pyramid, tmp_path: Path) -> None:
    images = [torch.randn(1, 3, 32, 48) for _ in range(2)]
    options = {"preprocessing": prunekit.Preprocessing(32, 48), "images": images, "dynamic": True}
    summary = prunekit.export(pyramid, tmp_path / "out", precision="fp16", **options)
    assert summary.parity_half is not None
    assert summary.parity_half.macs["fp16"] > 0.99


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_tensorrt_builds_it(pyramid: Pyramid, tmp_path: Path) -> None:
    options = {"preprocessing": prunekit.Preprocessing(32, 48), "dynamic": True, "trt": True}
    engine = EngineOptions(package="tensorrt_rtx", targets=("SM86",))
    assert prunekit.export(pyramid, tmp_path / "out", engine=engine, **options).engine is not None


def test_largest_values_of_bins_are_still_refused(tmp_path: Path) -> None:
    class Largest(nn.Module):
        def forward(self, images_B3HW: Tensor) -> Tensor:
            top = F.adaptive_max_pool2d(images_B3HW, 2)
            return images_B3HW + F.interpolate(top, images_B3HW.shape[-2:], mode="nearest")

    with pytest.raises(ExportError):
        export_onnx(Largest(), tmp_path / "model.onnx", height=32, width=48, dynamic=True)
    assert not list(tmp_path.iterdir())
