"""The whole export in one folder, every file consistent with the others."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from prunekit.models.segmenter import Segmenter
from prunekit_export import job, pipeline
from prunekit_export.errors import EngineError, ExportError
from prunekit_export.pipeline import export_into
from prunekit_export.request import ExportRequest, ExportSummary
from prunekit_export.staging import UNPROVED, staged
from prunekit_runtime.preprocessing import Preprocessing, read_contract

pytest.importorskip("onnxruntime", reason="parity runs in ONNX Runtime")
NAMES = ("sky", "road", "car", "pole", "sign")
PALETTE = [(index, 2 * index, 3 * index) for index in range(5)]


def export(
    segmenter: nn.Module, out_dir: Path, on_stage: Callable[[str], None] | None = None, **options: Any
) -> ExportSummary:
    height, width = options.pop("height", 32), options.pop("width", 48)
    contract = options.pop("contract", Preprocessing(32, 48))
    request = ExportRequest(segmenter, height, width, contract, NAMES, PALETTE, **options)
    with staged(out_dir) as stage:
        return export_into(stage, request, on_stage)


def test_float32_export(tiny_net: nn.Module, tmp_path: Path) -> None:
    stages: list[str] = []
    summary = export(tiny_net, tmp_path / "export", on_stage=stages.append)
    assert sorted(summary.files) == sorted((tmp_path / "export").iterdir())
    assert [path.name for path in summary.files] == [
        "model.onnx",
        "preprocessing.json",
        "classes.json",
        "parity.json",
        "trtexec.txt",
    ]
    assert json.loads((summary.out_dir / "classes.json").read_text()) == {
        "names": list(NAMES),
        "palette": [list(colour) for colour in PALETTE],
    }
    assert read_contract(summary.out_dir / "preprocessing.json") == Preprocessing(32, 48)
    assert (summary.engine, summary.onnx_half, summary.parity_half, summary.ranges) == (None,) * 4
    assert summary.onnx_bytes == summary.onnx_path.stat().st_size
    assert len(stages) >= 2


def test_file_carries_its_contract_and_classes(tiny_net: nn.Module, tmp_path: Path) -> None:
    summary = export(tiny_net, tmp_path)
    metadata = {p.key: json.loads(p.value) for p in onnx.load_model(summary.onnx_path).metadata_props}
    assert Preprocessing.from_json(metadata["prunekit.preprocessing"]) == Preprocessing(32, 48)
    assert metadata["prunekit.classes"]["names"] == list(NAMES)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@pytest.mark.parametrize("dynamic", [False, True])
def test_fp16_with_engine(tiny_net: nn.Module, tmp_path: Path, dynamic: bool) -> None:
    calibration = [torch.randn(2, 3, 32, 48), torch.randn(1, 3, 64, 64)]
    summary = export(tiny_net, tmp_path, precision="fp16", trt=True, dynamic=dynamic, batch=2, calibration=calibration)
    assert sorted(summary.files) == sorted(tmp_path.iterdir())
    assert summary.engine is not None
    assert summary.onnx_half is not None
    assert summary.engine.onnx_sha256 == summary.onnx_half.sha256
    assert summary.engine.profile.optimum == ((1 if dynamic else 2), 3, 32, 48)
    assert summary.engine_bytes == (tmp_path / "model.fp16.plan").stat().st_size
    report = json.loads((tmp_path / "parity.json").read_text())
    assert [file["precision"] for file in report["files"]] == ["fp32", "fp16"]
    assert [file["macs"] for file in report["files"]] == [{"fp32": 1}, {"fp16": 1}]
    full, half = ([row["shape"] for row in file["rows"]] for file in report["files"])
    assert full[: len(half)] == half, "float32 is tried at small sizes as well"
    assert len(half) == (4 if dynamic else 3)
    assert summary.engine.macs == {"fp16": 1}
    assert report["ranges"]["images"] >= 3


def test_fp16_without_calibration_images_is_refused_before_the_work(tiny_net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="fp16 needs calibration images"):
        export(tiny_net, tmp_path / "export", precision="fp16")
    assert not (tmp_path / "export").exists()


def test_missing_engine_package_is_told_before_the_work(
    tiny_net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_installed(_: str) -> None:
        raise EngineError("No TensorRT is installed")

    monkeypatch.setattr(pipeline, "choose_package", none_installed)
    with pytest.raises(EngineError, match="No TensorRT is installed"):
        export(tiny_net, tmp_path / "export", trt=True)
    assert not (tmp_path / "export").exists()


def test_contract_follows_the_exported_size(tiny_net: nn.Module, tmp_path: Path) -> None:
    export(tiny_net, tmp_path, contract=Preprocessing(128, 192))
    contract = read_contract(tmp_path / "preprocessing.json")
    picture = np.zeros((300, 200, 3), dtype=np.uint8)
    assert contract.prepare(picture).shape == (1, 3, 32, 48)


def test_padding_contract_keeps_its_own_size(tiny_net: nn.Module, tmp_path: Path) -> None:
    export(tiny_net, tmp_path, contract=Preprocessing(30, 47, pad_multiple=16))
    assert read_contract(tmp_path / "preprocessing.json") == Preprocessing(30, 47, pad_multiple=16)


def test_size_that_padding_never_gives_is_refused(tiny_net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"32 x 48 is no input\. Use 64 x 64"):
        export(tiny_net, tmp_path, contract=Preprocessing(128, 192, pad_multiple=64))


def test_open_size_needs_no_padding_by_the_contract(tiny_net: nn.Module, tmp_path: Path) -> None:
    summary = export(Segmenter(tiny_net, 5, 8), tmp_path, dynamic=True, contract=Preprocessing(0, 0, pad_multiple=4))
    assert summary.onnx.stride == 8
    assert read_contract(tmp_path / "preprocessing.json") == Preprocessing(0, 0, pad_multiple=4)
    assert any(height % 8 and width % 8 for _, height, width in (row.shape for row in summary.parity.rows))


def test_pictures_are_compared_as_the_contract_prepares_them(tiny_net: nn.Module, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    summary = export(tiny_net, tmp_path, pictures=[picture])
    assert [row.images for row in summary.parity.rows] == ["real", "drawn", "real"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_autocast_block_does_not_leave_the_rest_in_float32(dynamic: bool, tmp_path: Path) -> None:
    class Island(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 3, padding=1)])

        def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            features = self.steps[0](images_B3HW).relu().to(torch.float16).to(torch.float32)
            return self.steps[1](features)

    torch.manual_seed(0)
    summary = export(Island(), tmp_path, precision="fp16", dynamic=dynamic, calibration=[torch.randn(1, 3, 32, 48)])
    assert summary.parity.precision == "fp32"
    assert summary.parity_half is not None
    assert summary.parity_half.macs == {"fp16": 1}
    model = onnx.load_model(tmp_path / "model.fp16.onnx")
    assert {w.data_type for w in model.graph.initializer if len(w.dims) == 4} == {onnx.TensorProto.FLOAT16}


def test_fp16_file_that_would_be_float32_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 5, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(5e4)
        net[1].weight.div_(5e4)
    with pytest.raises(ExportError, match=r"0% of its multiply-accumulates in fp16.*Export fp32"):
        export(net, tmp_path / "export", precision="fp16", calibration=[torch.randn(1, 3, 32, 48)])
    assert not (tmp_path / "export").exists()


def test_failed_parity_leaves_nothing(tiny_net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        assert (tmp_path / "export" / UNPROVED / "model.onnx").exists()
        raise ExportError("differs")

    with monkeypatch.context() as patch:
        patch.setattr(job, "parity", fails)
        with pytest.raises(ExportError, match="differs"):
            export(tiny_net, tmp_path / "export")
    assert not list(tmp_path.iterdir())
    assert export(tiny_net, tmp_path / "export").onnx_path.exists()


def test_failed_engine_keeps_the_checked_files(
    tiny_net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(source: Path, plan: Path, **_: object) -> None:
        assert source.exists()
        raise EngineError("node strange cannot be parsed.")

    monkeypatch.setattr(pipeline, "choose_package", lambda _: None)
    monkeypatch.setattr(pipeline, "build_engine", fails)
    with pytest.raises(EngineError, match=r"node strange.*complete and checked: .*model\.onnx"):
        export(tiny_net, tmp_path / "export", trt=True)
    names = ["classes.json", "model.onnx", "parity.json", "preprocessing.json", "trtexec.txt"]
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == names


@pytest.mark.parametrize("threshold", [20, 9, 2])
def test_network_that_does_something_else_on_small_images_is_refused(threshold: int, tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            logits = self.convolution(images_B3HW)
            return logits if images_B3HW.shape[-1] > threshold else -logits

    with pytest.raises(ExportError, match=r"differs from the network.*--static"):
        export(Small(), tmp_path / "export", dynamic=True)
    assert not (tmp_path / "export").exists()
    assert export(Small(), tmp_path / "export").onnx_path.exists()


def test_least_size_of_a_kernel_is_no_reason_to_refuse(tmp_path: Path) -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 5, 9, 1)

        def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            small = self.patches(images_B3HW)
            return nn.functional.interpolate(small, images_B3HW.shape[-2:], mode="bilinear")

    rows = export(Patches(), tmp_path / "export", dynamic=True).parity.rows
    assert all(min(row.shape[1:]) >= 9 for row in rows), "smaller ones the network itself refuses"
