"""Ranges of activations: what they are, and that the same question is answered from what is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from prunekit_export.errors import ExportError
from prunekit_export.graph import save_onnx
from prunekit_export.quantising import CALIBRATIONS, calibrated, calibration

Draw = Callable[[int], onnx.ModelProto]


@pytest.fixture
def path(draw: Draw, tmp_path: Path) -> Path:
    save_onnx(draw(3), tmp_path / "model.onnx", stride=1)
    return tmp_path / "model.onnx"


def images(count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((2, 3, 16, 24)).astype(np.float32) for _ in range(count)]


def test_minmax_is_the_largest_magnitude_over_all_batches(path: Path) -> None:
    shown = images()
    shown[1][0, 0, 0, 0] = -9.0
    ranges = calibrated(path, shown, "minmax")
    assert ranges.images == 6
    assert ranges.largest["images"] == pytest.approx(9.0)


def test_the_other_methods_leave_out_an_outlier(path: Path) -> None:
    shown = images(8)
    shown[1][0, 0, 0, 0] = -300.0
    for method in ("percentile", "entropy"):
        assert calibrated(path, shown, method).largest["images"] < 100  # type: ignore[arg-type]


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_the_same_question_is_answered_from_what_is_kept(
    method: str, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = calibrated(path, images(), method)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(calibration, "_measured", None)
    assert calibrated(path, images(), method) == first  # type: ignore[arg-type]
    with pytest.raises(TypeError):  # another question
        calibrated(path, images(2), method)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": -1.0}', '{"images": "x"}', '{"images": NaN}'])
def test_what_is_kept_and_damaged_is_measured_again(path: Path, own_cache: Path, content: str) -> None:
    first = calibrated(path, images(), "minmax")
    (kept,) = (own_cache / "prunekit/calibration").iterdir()
    kept.write_text(content)
    assert calibrated(path, images(), "minmax") == first
    assert kept.read_text() != content


def test_without_images_there_is_one_error(path: Path) -> None:
    with pytest.raises(ExportError, match="needs calibration images"):
        calibrated(path, [], "minmax")
