"""The device's command: bench and golden from end to end, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.measuring.bench import synthetic_picture
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.running.device import describe_device

pytest.importorskip("onnxruntime")
WriteOnnx = Callable[..., Path]
QUICK = ["--warmup", "1", "--runs", "3"]


@pytest.fixture
def contract_path(tmp_path: Path) -> Path:
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(Preprocessing(height=16, width=20, pad_multiple=8).to_json()))
    return path


@pytest.fixture
def golden_path(write_onnx: WriteOnnx, contract_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "golden.npz"
    assert main(["golden", str(write_onnx()), "--contract", str(contract_path), "--out", str(path)]) == 0
    return path


def test_bench_measures_and_checks(
    write_onnx: WriteOnnx, contract_path: Path, golden_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    arguments = ["bench", str(write_onnx()), "--contract", str(contract_path), "--golden", str(golden_path), *QUICK]
    assert main([*arguments, "--threads", "1", "--provider", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runner"].startswith("onnxruntime CPUExecutionProvider")
    assert report["input_shape"] == [1, 3, 16, 24]
    assert report["latency"]["runs"] == report["preprocessing"]["runs"] == 3
    assert report["compute"] is None
    assert report["golden_passed"] is True
    assert report["golden"]["preprocessing_max_abs_error"] == 0
    assert report["peak_memory_bytes"] > 1 << 20
    assert report["device"]["numpy"] == np.__version__


def test_an_engine_reports_the_gpus_own_time(
    plan_path: Path, host_engine: Any, golden_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["bench", str(plan_path), "--golden", str(golden_path), *QUICK]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["compute"]["p50_ms"] == 0.25
    assert report["compute"]["runs"] == report["latency"]["runs"] == 3
    assert report["golden_passed"] is True


def test_a_failed_golden_check_is_exit_code_1(
    write_onnx: WriteOnnx, golden_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = GoldenCheck.load(golden_path)
    GoldenCheck(golden.images, -golden.logits).save(golden_path)
    capsys.readouterr()
    model = str(write_onnx())
    assert main(["bench", model, "--golden", str(golden_path), *QUICK]) == 1
    assert json.loads(capsys.readouterr().out)["golden_passed"] is False
    assert main(["bench", model, "--golden", str(golden_path), "--min-agreement", "0", *QUICK]) == 0


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (["--height", "5", "--width", "6"], [1, 3, 5, 6]),
        (["--height", "5", "--width", "6", "--batch", "2"], [2, 3, 5, 6]),
        (["--contract", "CONTRACT"], [1, 3, 16, 24]),
        (["--contract", "CONTRACT", "--batch", "3"], [3, 3, 16, 24]),
        (["--golden", "GOLDEN"], [1, 3, 16, 24]),
        (["--golden", "GOLDEN", "--batch", "2"], [2, 3, 16, 24]),
    ],
)
def test_the_size_comes_from_the_nearest_source(
    write_onnx: WriteOnnx,
    contract_path: Path,
    golden_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    shape: list[int],
) -> None:
    files = {"CONTRACT": str(contract_path), "GOLDEN": str(golden_path)}
    capsys.readouterr()
    assert main(["bench", str(write_onnx()), *(files.get(option, option) for option in options), *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["input_shape"] == shape


def test_a_fixed_model_knows_its_size(write_onnx: WriteOnnx, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_onnx(height=8, width=8))
    assert main(["bench", model, *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["input_shape"] == [1, 3, 8, 8]
    assert main(["bench", model, "--height", "9", *QUICK]) == 2
    assert "takes ? x 3 x 8 x 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--height"),
        (["--runs", "0", "--height", "4", "--width", "4"], "runs"),
        (["--golden", "absent.npz"], "absent.npz"),
        (["--contract", "absent.json"], "absent.json"),
        (["--min-agreement", "0.5"], "--golden"),
    ],
)
def test_a_refusal_is_one_sentence_on_stderr(
    write_onnx: WriteOnnx, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["bench", str(write_onnx()), *options]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert words in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("option", [["--runs", "-1"], ["--min-agreement", "2"], ["--provider", "gpu"]])
def test_senseless_options_are_usage_errors(option: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "model.onnx", *option])


def test_golden_needs_a_size(write_onnx: WriteOnnx, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "free.json", tmp_path / "free.npz"
    path.write_text(json.dumps(Preprocessing(height=0, width=0, pad_multiple=8).to_json()))
    arguments = ["golden", str(write_onnx()), "--contract", str(path), "--out", str(out)]
    assert main(arguments) == 2
    assert "--height" in capsys.readouterr().err
    assert main([*arguments, "--height", "9", "--width", "10", "--seed", "3"]) == 0
    golden = GoldenCheck.load(out)
    assert golden.images.shape == (1, 3, 16, 16)
    np.testing.assert_array_equal(golden.picture, synthetic_picture(9, 10, seed=3))


def test_the_board_is_read_from_the_system(tmp_path: Path) -> None:
    for name, content in {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\n",
        "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "46500\n",
        "sys/class/thermal/thermal_zone1/type": "broken\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    device = describe_device(tmp_path)
    assert device["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert device["jetson_linux"] == "# R36 (release), REVISION: 4.3"
    assert device["temperatures_celsius"] == {"gpu-thermal": 46.5}
    assert device["cpu"] is None
    json.dumps(describe_device())
