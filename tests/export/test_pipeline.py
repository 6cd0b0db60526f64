"""The whole export in one folder, every file consistent with the others."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from prunekit_export import pipeline
from prunekit_export.errors import EngineError, ExportError
from prunekit_export.pipeline import ExportSummary, export_run
from prunekit_runtime.preprocessing import Preprocessing, read_contract

pytest.importorskip("onnxruntime", reason="parity runs in ONNX Runtime")
NAMES = ("sky", "road", "car", "pole", "sign")
PALETTE = [(index, 2 * index, 3 * index) for index in range(5)]


def export(segmenter: nn.Module, out_dir: Path, **options: Any) -> ExportSummary:
    values: dict[str, Any] = {
        "out_dir": out_dir,
        "height": 32,
        "width": 48,
        "contract": Preprocessing(32, 48),
        "class_names": NAMES,
        "palette": PALETTE,
    }
    return export_run(segmenter, **(values | options))


def test_float32_export(tiny_net: nn.Module, tmp_path: Path) -> None:
    stages: list[str] = []
    summary = export(tiny_net, tmp_path / "export", on_stage=stages.append)
    assert sorted(summary.files) == sorted((tmp_path / "export").iterdir())
    assert [path.name for path in summary.files] == ["model.onnx", "preprocessing.json", "classes.json", "parity.json"]
    assert json.loads((summary.out_dir / "classes.json").read_text()) == {
        "names": list(NAMES),
        "palette": [list(colour) for colour in PALETTE],
    }
    assert read_contract(summary.out_dir / "preprocessing.json") == Preprocessing(32, 48)
    assert (summary.engine, summary.onnx_fp16, summary.parity_fp16, summary.ranges) == (None,) * 4
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
    assert summary.onnx_fp16 is not None
    assert summary.engine.onnx_sha256 == summary.onnx_fp16.sha256
    assert summary.engine.profile.optimum == ((1 if dynamic else 2), 3, 32, 48)
    assert summary.engine_bytes == (tmp_path / "model.fp16.plan").stat().st_size
    report = json.loads((tmp_path / "parity.json").read_text())
    assert [file["precision"] for file in report["files"]] == ["fp32", "fp16"]
    assert [len(file["rows"]) for file in report["files"]] == [3, 3]
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


def test_dynamic_network_with_a_stride_needs_padding_to_it(tiny_net: nn.Module, tmp_path: Path) -> None:
    class Strided(nn.Module):
        stride = 8

        def __init__(self) -> None:
            super().__init__()
            self.network = tiny_net

        def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            return self.network(images_B3HW)

    with pytest.raises(ExportError, match="multiples of 4, but the network takes multiples of 8"):
        export(Strided(), tmp_path, dynamic=True, contract=Preprocessing(0, 0, pad_multiple=4))
    summary = export(Strided(), tmp_path, dynamic=True, contract=Preprocessing(0, 0, pad_multiple=8))
    assert summary.onnx.stride == 8
    assert read_contract(tmp_path / "preprocessing.json") == Preprocessing(0, 0, pad_multiple=8)
