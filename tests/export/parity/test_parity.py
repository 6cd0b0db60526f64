"""Parity and the range scan: right files pass, wrong ones do not, whatever way they are wrong."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from torch import nn

from prunekit_export.errors import ExportError
from prunekit_export.graph import ExportReport, export_onnx, save_onnx
from prunekit_export.parity import parity, parity_shapes
from prunekit_export.parity.agreement import agreement
from prunekit_export.parity.compare import draw_images
from prunekit_export.precision import FP16, HalfPass, macs_by_type, precision_name, scan_ranges, shares
from prunekit_export.precision.range_scan import HEADROOM

pytest.importorskip("onnxruntime", reason="parity runs in ONNX Runtime")
DIMS = (2, 3, 33, 47)
SHAPES = parity_shapes(height=32, width=48, batch=1, dynamic=True)


def test_dynamic_file_equals_the_network_at_odd_shapes(tiny_net: nn.Module, dynamic_file: ExportReport) -> None:
    report = parity(tiny_net, dynamic_file.path, shapes=(*SHAPES, (3, 17, 61), (1, 9, 5)))
    assert report.max_rel < 1e-5
    assert report.label_agreement > 0.999
    assert report.runtime.startswith("onnxruntime CPUExecutionProvider")
    assert report.precision == "fp32"
    assert [row["shape"] for row in report.to_json()["rows"]][:4] == list(SHAPES)


def test_fp16_file_is_computed_in_fp16(tiny_net: nn.Module, dynamic_file: ExportReport, tmp_path: Path) -> None:
    half = save_onnx(HalfPass()(onnx.load_model(dynamic_file.path)).model, tmp_path / "half.onnx")
    report = parity(tiny_net, half.path, shapes=SHAPES)
    assert report.runtime.endswith("results rounded to fp16")
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
    assert max(report.peaks.values()) > FP16.largest
    half = save_onnx(HalfPass(report.keep_fp32)(model).model, tmp_path / "half.onnx")
    assert parity(overflowing_net, half.path, shapes=SHAPES).max_rel < 1e-2
    with pytest.raises(ExportError, match="does not fit fp16"):
        HalfPass()(model)


def test_activation_that_overflows_fails_parity(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    with torch.no_grad():
        for conv in net:
            conv.weight.copy_(torch.eye(3)[..., None, None])
        net[0].weight.mul_(6e4)
        net[1].weight.div_(6e4)
    full = export_onnx(net, tmp_path / "full.onnx", height=16, width=16, dynamic=False)
    model = onnx.load_model(full.path)
    half = save_onnx(HalfPass()(model).model, tmp_path / "half.onnx")
    with pytest.raises(ExportError, match=r"Export fp32, or keep the nodes .* --keep-fp32 NAME"):
        parity(net, half.path, shapes=[(1, 16, 16)])
    keep = scan_ranges(model, [draw_images((1, 16, 16), 0)]).keep_fp32
    assert len(keep) == 2
    kept = save_onnx(HalfPass(keep)(model).model, tmp_path / "kept.onnx")
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


@given(height=st.integers(1, 300), width=st.integers(1, 300), stride=st.integers(1, 32))
def test_shapes_of_an_open_size_go_off_the_stride(height: int, width: int, stride: int) -> None:
    exported, multiple, *others = parity_shapes(height=height, width=width, batch=1, dynamic=True, stride=stride)
    assert exported == (1, height, width)
    assert {images for images, _, _ in (exported, multiple, *others)} == {1, 2}
    assert multiple[1] % stride == multiple[2] % stride == 0
    assert any(rows % 2 and columns % 2 for _, rows, columns in others)
    if stride > 1 and height > 1:
        assert any(rows % stride for _, rows, _ in (exported, *others))
        assert any(columns % stride for _, _, columns in (exported, *others))


def test_shapes_of_a_fixed_size_are_that_size() -> None:
    assert set(parity_shapes(height=30, width=50, batch=3, dynamic=False, stride=8)) == {(3, 30, 50)}


def test_drawn_images_depend_on_the_seed_alone() -> None:
    assert np.array_equal(draw_images((2, 9, 13), 1), draw_images((2, 9, 13), 1))
    assert not np.array_equal(draw_images((2, 9, 13), 1), draw_images((2, 9, 13), 2))
    assert draw_images((2, 9, 13), 1).shape == (2, 3, 9, 13)


def test_precision_is_counted_in_the_file(static_file: ExportReport) -> None:
    model = onnx.load_model(static_file.path)
    full = macs_by_type(model, DIMS)
    # first: 3 x 3 x 3 x 6 at 17 x 24; second: 3 x 3 x 6 x 8 at 9 x 12; head: 14 x 5 at 17 x 24; two images
    assert full == {"fp32": 2 * (162 * 408 + 432 * 108 + 70 * 408)}
    assert precision_name(model, full) == "fp32"
    half = HalfPass()(model).model
    assert macs_by_type(half, DIMS) == {"fp16": full["fp32"]}
    assert precision_name(half, macs_by_type(half, DIMS)) == "fp16"
    kept = HalfPass(frozenset({_first_convolution(model)}))(model).model
    macs = macs_by_type(kept, DIMS)
    assert macs["fp32"] == 2 * 162 * 408
    assert precision_name(kept, macs) == "mixed"
    assert shares(macs)["fp32"] == pytest.approx(162 * 408 / (162 * 408 + 432 * 108 + 70 * 408))
    assert FP16.largest * HEADROOM == 65504 / 4


def _first_convolution(model: onnx.ModelProto) -> str:
    return next(node.name for node in model.graph.node if node.op_type == "Conv")


@pytest.mark.parametrize("kind", ["Gemm", "MatMul", "ConvTranspose"])
def test_multiply_accumulates_of_every_product(kind: str) -> None:
    shapes = {"Gemm": ((48, 6), (6,)), "MatMul": ((16, 6),), "ConvTranspose": ((3, 5, 2, 2),)}[kind]
    weights = [onnx.numpy_helper.from_array(np.ones(shape, np.float32), f"w{i}") for i, shape in enumerate(shapes)]
    flat = [onnx.helper.make_node("Flatten", ["images"], ["x"])] if kind == "Gemm" else []
    node = onnx.helper.make_node(kind, ["x" if flat else "images", *(w.name for w in weights)], ["logits"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [*flat, node],
        "product",
        [value("images", TensorProto.FLOAT, ["n", 3, 1, 16])],
        [value("logits", TensorProto.FLOAT, None)],
        weights,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    expected = {"Gemm": 2 * 48 * 6, "MatMul": 2 * 3 * 16 * 6, "ConvTranspose": 2 * 3 * 16 * 5 * 2 * 2}[kind]
    assert macs_by_type(model, (2, 3, 1, 16)) == {"fp32": expected}


class Shifted(nn.Module):
    """A network whose classes have an offset in common, which no softmax and no label sees."""

    def __init__(self, network: nn.Module, offset: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return self.network(images_B3HW) + self.offset


def test_labels_are_asked_for_beside_the_logits(tiny_net: nn.Module, tmp_path: Path) -> None:
    net = Shifted(tiny_net, 2000.0)
    full = export_onnx(net, tmp_path / "full.onnx", height=32, width=48, dynamic=False)
    assert parity(net, full.path, shapes=[(1, 32, 48)]).label_agreement > 0.99
    half = save_onnx(HalfPass()(onnx.load_model(full.path)).model, tmp_path / "half.onnx")
    with pytest.raises(ExportError, match=r"labels agree on .*99% is asked for.*export fp32"):
        parity(net, half.path, shapes=[(1, 32, 48)])


def test_pixels_that_rounding_decides_excuse_nothing_else() -> None:
    random = np.random.default_rng(0)
    expected = random.standard_normal((2, 4, 50, 50))
    tied = expected.copy()
    tied[:, 1, :25] = tied[:, 0, :25] = 9  # half of the pixels are ties
    tied[:, 1, :25] += 1e-6
    got = tied.copy()
    got[:, 0, :25] += 2e-6
    result = agreement(tied, got, 1e-4)
    assert result.all == 0.5
    assert result.decided > 0.999
    assert 0.49 < result.decided_share < 0.51
    assert result.passed
    got[:, :, 25:27] = -got[:, :, 25:27]  # 4 % of all pixels, decided and wrong
    assert not agreement(tied, got, 1e-4).passed
    # A common offset, or one pixel with enormous logits, makes no pixel undecided.
    assert agreement(tied + 1e3, tied, 1e-4).decided_share == pytest.approx(result.decided_share, abs=1e-3)
    tied[0, 2, 0, 0] = 1e9
    assert agreement(tied, tied, 1e-4).decided_share == pytest.approx(result.decided_share, abs=1e-3)


class Rounding(nn.Module):
    """The network with one decision that float32 takes wrongly, as a maximum of almost equal values is."""

    def __init__(self, network: nn.Module, wrong_in: torch.dtype | None) -> None:
        super().__init__()
        self.network = network
        self.wrong_in = wrong_in

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        logits = self.network(images_B3HW)
        if self.wrong_in in (None, logits.dtype):
            logits = logits.clone()
            logits[:, :, 3, 5] += 0.1
        return logits


def test_what_rounding_decides_in_torch_is_compared_in_float64(tiny_net: nn.Module, static_file: ExportReport) -> None:
    report = parity(Rounding(tiny_net, torch.float32), static_file.path, shapes=[(2, 33, 47)])
    assert report.rows[0].float64
    assert report.max_rel < 1e-6
    with pytest.raises(ExportError, match="differs from the network"):  # and what is wrong in float64 as well is not
        parity(Rounding(tiny_net, None), static_file.path, shapes=[(2, 33, 47)])


def test_real_images_are_compared_where_there_are_some(tiny_net: nn.Module, static_file: ExportReport) -> None:
    asked: list[tuple[int, int, int]] = []

    def real(shape: tuple[int, int, int]) -> np.ndarray:
        asked.append(shape)
        return draw_images(shape, 9)

    report = parity(tiny_net, static_file.path, shapes=[(2, 33, 47)] * 3, real_images=real)
    assert [row.images for row in report.rows] == ["real", "drawn", "real"]
    assert asked == [(2, 33, 47)] * 2


def test_size_that_the_network_does_not_take_is_named(dynamic_file: ExportReport) -> None:
    class Even(nn.Module):
        def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(f"Sizes of tensors must match: {images_B3HW.shape}")

    with pytest.raises(ExportError, match=r"network itself does not take images.*Sizes of tensors.*--static.*stride"):
        parity(Even(), dynamic_file.path, shapes=[(1, 33, 47)])
