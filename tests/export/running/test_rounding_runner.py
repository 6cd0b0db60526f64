"""`eval` of an fp16 file on the CPU: what fp16 gives, where ONNX Runtime would compute in float32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import prunekit
from prunekit_export.running import open_runner
from prunekit_runtime.errors import PrunekitError


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    images = [torch.randn(1, 3, 24, 32) for _ in range(2)]
    options = {"precision": "fp16", "images": images, "preprocessing": prunekit.Preprocessing(24, 32), "end2end": True}
    return prunekit.export(net, tmp_path_factory.mktemp("half") / "out", **options).out_dir


def test_results_are_numbers_that_fp16_has(exported: Path) -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, 24, 32)).astype(np.float32)
    with open_runner(exported / "model.fp16.onnx", rounding="all") as runner:
        got, name = runner.run(images), runner.name
    np.testing.assert_array_equal(got, got.astype(np.float16))
    assert name.endswith(", results rounded to fp16")
    with open_runner(exported / "model.fp16.onnx") as runner:
        assert not runner.name.endswith("fp16")


def test_a_file_of_labels_is_rounded_inside(exported: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), dtype=np.uint8)
    with open_runner(exported / "model.fp16.labels.onnx", graph=None, rounding="all") as runner:
        assert runner.run(pictures).dtype == np.uint8
        assert runner.name.endswith("fp16")


def test_a_float32_file_is_run_as_ever(exported: Path) -> None:
    with open_runner(exported / "model.onnx", rounding="all") as runner:
        assert "rounded" not in runner.name


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a" * 50])
def test_what_is_no_model_is_refused_as_ever(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(PrunekitError, match=r"model\.onnx"):
        open_runner(path, rounding="all")


def test_weights_in_another_file_are_not_read_for_it(exported: Path, tmp_path: Path) -> None:
    model = onnx.load_model(exported / "model.fp16.onnx")
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    with pytest.raises(PrunekitError, match=r"cannot load .*model\.onnx"):
        open_runner(path, rounding="all")
