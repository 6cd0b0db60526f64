"""Parity and the range scan: right files pass, wrong ones do not, whatever way they are wrong."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit_export.errors import ExportError
from prunekit_export.onnx_export import ExportReport, export_onnx, save_onnx
from prunekit_export.parity import draw_images, parity, parity_shapes, precision_of
from prunekit_export.passes.fp16 import FLOAT16_MAX, Fp16Pass
from prunekit_export.range_scan import DEFAULT_LIMIT, scan_ranges

pytest.importorskip("onnxruntime", reason="parity runs in ONNX Runtime")
SHAPES = parity_shapes(height=32, width=48, batch=1, dynamic=True)


def test_dynamic_file_equals_the_network_at_odd_shapes(tiny_net: nn.Module, dynamic_file: ExportReport) -> None:
    report = parity(tiny_net, dynamic_file.path, shapes=(*SHAPES, (3, 17, 61), (1, 9, 5)))
    assert report.max_rel < 1e-5
    assert report.label_agreement > 0.999
    assert report.runtime.startswith("onnxruntime CPUExecutionProvider")
    assert report.precision == "fp32"
    assert [row["shape"] for row in report.to_json()["rows"]][:3] == list(SHAPES)


def test_fp16_file_is_computed_in_fp16(tiny_net: nn.Module, dynamic_file: ExportReport, tmp_path: Path) -> None:
    half = save_onnx(Fp16Pass()(onnx.load_model(dynamic_file.path)).model, tmp_path / "half.onnx")
    report = parity(tiny_net, half.path, shapes=SHAPES)
    assert report.runtime.startswith("onnx.reference")
    assert 1e-6 < report.max_rel < 1e-2, "float32 would be closer than fp16 can be"


@pytest.mark.parametrize("wrong", ["weights", "nan"])
def test_other_weights_are_found(wrong: str, tiny_net: nn.Module, static_file: ExportReport) -> None:
    other = copy.deepcopy(tiny_net)
    with torch.no_grad():
        head: nn.Conv2d = other.head
        head.weight[0, 0] = head.weight[0, 0] + 0.01 if wrong == "weights" else float("nan")
    with pytest.raises(ExportError, match=r"model.onnx differs from the network at 2 x 3 x 33 x 47"):
        parity(other, static_file.path, shapes=[(2, 33, 47)])


def test_overflow_is_seen_and_the_scan_prevents_it(overflowing_net: nn.Module, tmp_path: Path) -> None:
    full = export_onnx(overflowing_net, tmp_path / "full.onnx", height=32, width=48, dynamic=True)
    model = onnx.load_model(full.path)
    report = scan_ranges(model, [draw_images((1, 32, 48), 0), draw_images((2, 32, 48), 1)])
    assert report.images == 3
    assert report.keep_fp32
    assert max(report.peaks.values()) > FLOAT16_MAX
    half = save_onnx(Fp16Pass(report.keep_fp32)(model).model, tmp_path / "half.onnx")
    assert parity(overflowing_net, half.path, shapes=SHAPES).max_rel < 1e-2
    with pytest.raises(ExportError, match="does not fit fp16"):
        Fp16Pass()(model)


def test_activation_that_overflows_fails_parity(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    with torch.no_grad():
        for conv in net:
            conv.weight.copy_(torch.eye(3)[..., None, None])
        net[0].weight.mul_(6e4)
        net[1].weight.div_(6e4)
    full = export_onnx(net, tmp_path / "full.onnx", height=16, width=16, dynamic=False)
    model = onnx.load_model(full.path)
    half = save_onnx(Fp16Pass()(model).model, tmp_path / "half.onnx")
    with pytest.raises(ExportError, match="Export fp32, or keep the overflowing nodes"):
        parity(net, half.path, shapes=[(1, 16, 16)])
    keep = scan_ranges(model, [draw_images((1, 16, 16), 0)]).keep_fp32
    assert len(keep) == 2
    kept = save_onnx(Fp16Pass(keep)(model).model, tmp_path / "kept.onnx")
    assert parity(net, kept.path, shapes=[(1, 16, 16)]).max_rel < 1e-2


def test_peaks_are_the_activations_largest_magnitudes(tiny_net: nn.Module, static_file: ExportReport) -> None:
    images = draw_images((2, 33, 47), 5)
    peaks = scan_ranges(onnx.load_model(static_file.path), [images]).peaks
    with torch.no_grad():
        logits = tiny_net.eval()(torch.from_numpy(images))
    assert peaks["logits"] == pytest.approx(float(logits.abs().max()), rel=1e-5)
    assert len(peaks) > 5


def test_scan_needs_images_and_finite_activations(static_file: ExportReport) -> None:
    model = onnx.load_model(static_file.path)
    with pytest.raises(ExportError, match="calibration images"):
        scan_ranges(model, [])
    with pytest.raises(ExportError, match="not finite in float32 already"):
        scan_ranges(model, [np.full((2, 3, 33, 47), 1e38, dtype=np.float32)])
    images = draw_images((2, 33, 47), 0)
    images[1, 2, 32, 46] = np.nan
    with pytest.raises(ExportError, match="not finite in float32 already"):
        scan_ranges(model, [images])


@given(height=st.integers(1, 40), width=st.integers(1, 40), batch=st.integers(1, 4), stride=st.integers(1, 32))
def test_shapes_are_three_and_odd_multiples_of_the_stride(height: int, width: int, batch: int, stride: int) -> None:
    shapes = parity_shapes(height=height * stride, width=width * stride, batch=batch, dynamic=True, stride=stride)
    assert len(set(shapes)) == 3
    assert shapes[0] == (batch, height * stride, width * stride)
    for _, rows, columns in shapes[1:]:
        assert rows % stride == columns % stride == 0
        assert (rows // stride) % 2 == (columns // stride) % 2 == 1
    fixed = parity_shapes(height=height, width=width, batch=batch, dynamic=False, stride=stride)
    assert set(fixed) == {(batch, height, width)}


def test_drawn_images_depend_on_the_seed_alone() -> None:
    assert np.array_equal(draw_images((2, 9, 13), 1), draw_images((2, 9, 13), 1))
    assert not np.array_equal(draw_images((2, 9, 13), 1), draw_images((2, 9, 13), 2))
    assert draw_images((2, 9, 13), 1).shape == (2, 3, 9, 13)


def test_precision_is_read_from_the_file(static_file: ExportReport) -> None:
    model = onnx.load_model(static_file.path)
    assert precision_of(model) == "fp32"
    assert precision_of(Fp16Pass()(model).model) == "fp16"
    assert DEFAULT_LIMIT == 65504 / 4
