"""The exported file: names, dims, opset, and a refusal for what cannot be exported."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunekit.models.segmenter import Segmenter
from prunekit_export.errors import ExportError
from prunekit_export.graph import ExportReport, export_onnx, save_onnx, set_metadata_
from prunekit_export.parity import parity
from prunekit_runtime.timing.modules import MODULES, read_modules


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return self.function(images_B3HW)


def resized(small: Tensor, images_B3HW: Tensor) -> Tensor:
    return F.interpolate(small, images_B3HW.shape[-2:], mode="nearest")


def padded_by_python(images_B3HW: Tensor) -> Tensor:
    """Pad to multiples of 4 as a Segmenter does: a branch on the size."""
    height, width = images_B3HW.shape[-2:]
    below, right = -height % 4, -width % 4
    padded = F.pad(images_B3HW, (0, right, 0, below)) if below or right else images_B3HW
    pooled = F.avg_pool2d(padded, 4)
    return F.interpolate(pooled, padded.shape[-2:], mode="bilinear")[..., :height, :width]


def export(function: Callable[[Tensor], Tensor], path: Path, **options: Any) -> ExportReport:
    return export_onnx(Applied(function), path, **({"height": 32, "width": 48, "dynamic": True} | options))


def test_dynamic_file_has_the_agreed_names(dynamic_file: ExportReport) -> None:
    model = onnx.load_model(dynamic_file.path)
    assert dynamic_file.input_dims == ("batch", 3, "height", "width")
    assert dynamic_file.output_dims == ("batch", 5, "height", "width")
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    assert (dynamic_file.opset, dynamic_file.ir_version) == (20, 10)
    assert {p.key: p.value for p in model.metadata_props} == {"prunekit.note": "kept", MODULES: ANY}
    assert dynamic_file.onnx_bytes == dynamic_file.path.stat().st_size


def test_static_file_has_the_asked_size(static_file: ExportReport) -> None:
    assert static_file.input_dims == (2, 3, 33, 47)
    assert static_file.output_dims == (2, 5, 33, 47)


def test_export_leaves_the_network_as_it_is(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train().double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export_onnx(net, tmp_path / "model.onnx", height=8, width=8, dynamic=False)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_same_network_gives_the_same_bytes(static_file: ExportReport, tiny_net: nn.Module, tmp_path: Path) -> None:
    again = export_onnx(tiny_net, tmp_path / "again.onnx", height=33, width=47, batch=2, dynamic=False)
    assert again.sha256 == static_file.sha256


def run(report: ExportReport, images: Tensor) -> Tensor:
    session = pytest.importorskip("onnxruntime").InferenceSession(str(report.path))
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def assert_equal_at_any_size(report: ExportReport, network: nn.Module | Callable[[Tensor], Tensor]) -> None:
    sizes = ((1, 32, 48), (2, 31, 47), (1, 33, 50), (3, 1, 1), (2, 5, 64))
    for images, height, width in sizes:
        drawn = torch.randn(images, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            torch.testing.assert_close(run(report, drawn), network(drawn), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_open_size_is_padded_inside_the_file_as_in_the_segmenter(stride: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    steps = [nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(stride), nn.Conv2d(4, 3, 3, padding=1)]
    net = Segmenter(nn.Sequential(*steps), 3, stride).eval()
    report = export_onnx(net, tmp_path / "model.onnx", height=32, width=48, dynamic=True, stride=stride)
    assert report.input_dims == ("batch", 3, "height", "width")
    assert report.output_dims == ("batch", 3, "height", "width")
    assert report.stride == stride
    assert_equal_at_any_size(report, net)


def test_exported_size_off_the_stride_is_taken(tmp_path: Path) -> None:
    report = export(padded_by_python, tmp_path / "model.onnx", height=30, stride=4)
    assert report.input_dims == ("batch", 3, "height", "width")
    fixed = export(padded_by_python, tmp_path / "model.onnx", height=30, stride=4, dynamic=False)
    assert fixed.input_dims == (1, 3, 30, 48)


@pytest.mark.parametrize("size", [{}, {"height": 30, "width": 45}], ids=["on the stride", "off the stride"])
def test_network_that_pads_itself_in_python_is_padded_in_the_file(size: dict[str, int], tmp_path: Path) -> None:
    report = export(padded_by_python, tmp_path / "model.onnx", **size)
    assert report.stride == 4
    assert_equal_at_any_size(report, padded_by_python)


def padded_elsewhere(images_B3HW: Tensor) -> Tensor:
    """Pad at the top and the left: not as the file would."""
    height, width = images_B3HW.shape[-2:]
    above, left = -height % 4, -width % 4
    padded = F.pad(images_B3HW, (left, 0, above, 0)) if above or left else images_B3HW
    return F.interpolate(F.avg_pool2d(padded, 4), padded.shape[-2:], mode="bilinear")[..., above:, left:]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (padded_elsewhere, r"Python depends on the image's size.*height.*--static.*stride = 4"),
        (lambda x: x if x.shape[-1] > 40 else -x, r"width > 40|40 < width.*--static"),
        (lambda x: x if x.shape[-2] != 40 else -x, r"not at 40 x 40.*--static"),
        (lambda x: x / math.sqrt(x.shape[-2] * x.shape[-1]), r"height\*width == 1536.*--static"),
        (lambda x: resized(F.avg_pool2d(x, x.shape[-1] // 4), x), r"width//4\) == 12.*--static.*attribute stride"),
    ],
    ids=["padding", "threshold", "one-size", "baked-constant", "windows"],
)
def test_branch_on_the_size_is_named_with_the_way_out(
    function: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(function, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    assert export(function, tmp_path / "model.onnx", dynamic=False).stride == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: resized(F.adaptive_max_pool2d(x, (2, 1)), x), r"pools to \[2, 1\].*--static"),
        (lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), "antialias=False"),
        (lambda x: x[:, :2] if x.shape[-1] == 48 else x, "--static"),
    ],
    ids=["maximum", "antialias", "python-branch"],
)
def test_what_would_be_wrong_at_other_sizes_is_refused(
    function: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(function, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_adaptive_pool_exports_where_it_is_right(tmp_path: Path) -> None:
    assert export(lambda x: resized(F.adaptive_avg_pool2d(x, 1), x), tmp_path / "one.onnx").opset == 20
    assert export(lambda x: resized(F.adaptive_avg_pool2d(x, 3), x), tmp_path / "fixed.onnx", dynamic=False).opset == 20


def test_error_inside_the_exporter_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("\x1b[96mstep 3/3\x1b[0m: no such pass")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(ExportError, match=r"not written as ONNX: .*step 3/3: no such pass") as caught:
        export(lambda x: x, tmp_path / "model.onnx")
    assert str(caught.value).isprintable()


def test_module_of_the_refused_pool_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveMaxPool2d(2))
    with pytest.raises(ExportError, match="Module 1 pools"):
        export_onnx(net, tmp_path / "model.onnx", height=8, width=8, dynamic=True)


def test_failed_export_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ExportError):
        export(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), path)
    assert path.read_bytes() == b"old"


def test_other_opset_and_broken_graph_are_refused(static_file: ExportReport, tmp_path: Path) -> None:
    model = onnx.load_model(static_file.path)
    model.opset_import[0].version = 18
    with pytest.raises(ExportError, match="opset 18, not 20"):
        save_onnx(model, tmp_path / "model.onnx")
    model = onnx.load_model(static_file.path)
    model.graph.node[0].input[0] = "nothing"
    with pytest.raises(ExportError, match="not valid ONNX"):
        save_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_metadata_replaces_and_keeps(static_file: ExportReport) -> None:
    model = onnx.load_model(static_file.path)
    model.ClearField("metadata_props")
    set_metadata_(model, {"b": "1", "a": "2"})
    set_metadata_(model, {"b": "3"})
    assert [(p.key, p.value) for p in model.metadata_props] == [("a", "2"), ("b", "3")]


class WindowAttention(nn.Module):
    """Attention in windows with a bias by place, as Swin of transformers and timm has it, and views behind it."""

    def __init__(self, *, with_bias: bool) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 24, 8, stride=8), nn.Conv2d(24, 5, 1)
        self.in_parts = nn.Linear(24, 72)
        self.bias = nn.Parameter(torch.randn(1, 2, 16, 16)) if with_bias else None

    def forward(self, images_B3HW: Tensor) -> Tensor:
        features = self.patches(images_B3HW)
        batch, channels, height, width = features.shape
        windows = features.flatten(2).transpose(1, 2).reshape(-1, 16, channels)
        count = windows.shape[0]
        query, key, value = self.in_parts(windows).view(count, 16, 3, 2, 12).permute(2, 0, 3, 1, 4)
        mask = None if self.bias is None else self.bias.expand(count, 2, 16, 16) + torch.zeros(count, 1, 16, 16)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).contiguous().reshape(count, 16, -1)
        logits = self.head(mixed.reshape(batch, height * width, channels).transpose(1, 2).view(features.shape))
        return F.interpolate(logits, scale_factor=8.0)


@pytest.mark.parametrize("with_bias", [False, True])
def test_attention_with_a_mask_and_views_is_written_and_right(tmp_path: Path, with_bias: bool) -> None:
    torch.manual_seed(0)
    net = WindowAttention(with_bias=with_bias).eval()
    export_onnx(net, tmp_path / "model.onnx", height=64, width=64, dynamic=False)
    report = parity(net, tmp_path / "model.onnx", shapes=[(1, 64, 64)])
    assert report.max_rel < 1e-5


def test_nodes_tell_the_modules_that_they_come_from(tiny_net: nn.Module, dynamic_file: ExportReport) -> None:
    model = onnx.load_model(dynamic_file.path)
    modules = read_modules(next(entry.value for entry in model.metadata_props if entry.key == MODULES))
    convolutions = [modules[node.name] for node in model.graph.node if node.op_type == "Conv"]
    # A batch norm that follows is merged into the first one, and its name taken.
    assert convolutions[0] in ("first", "norm")
    assert convolutions[1:] == ["second", "head"]
    assert set(modules.values()) <= {name for name, _ in tiny_net.named_modules()}
    assert "/" not in "".join(modules.values()), "no path of the machine that wrote it"
