"""Commands of the runtime under Python 3.10, the device's, where one with numpy and ONNX Runtime is at hand."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prunekit_runtime.pictures.png_writer import encode_picture

DEPLOY = Path(__file__).parents[2] / "deploy"
Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(checkable: Path) -> Begin:
    """Start a command in the bundle's folder."""
    python = shutil.which("python3.10")
    probe = [python or "", "-c", "import numpy, onnxruntime"]
    if python is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 with numpy and ONNX Runtime at hand")

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = [python, "-W", "error", "-m", "prunekit_runtime", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(DEPLOY)}
        return subprocess.Popen(
            command, cwd=checkable, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_picture(np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "--backend", "ort"),
        ("check", "--backend", "ort"),
        ("bench", "--backend", "ort", "--runs", "5", "--warmup", "1"),
        ("doctor", "--backend", "ort"),
        ("run", "PHOTO", "--model", "labels", "--backend", "ort", "--as", "mask,overlay,contour,side-by-side"),
        ("run", "PHOTO", "--model", "logits", "--backend", "ort", "--json"),
        ("predict", "models/logits.onnx", "PHOTO", "--contract", "preprocessing.json", "--out", "reports/predict"),
    ],
)
def test_a_command_works(begin: Begin, picture: Path, arguments: tuple[str, ...]) -> None:
    process = begin(*(str(picture) if word == "PHOTO" else word for word in arguments))
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 0, complained
    assert said
    assert "Traceback" not in complained


def test_serve_answers_and_ends(begin: Begin, picture: Path) -> None:
    process = begin("serve", "--model", "labels", "--backend", "ort", "--port", "0")
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    try:
        assert "Listening on" in lines[1], process.stderr and process.stderr.read()
        address = lines[1].split()[2]
        headers = {"Content-Type": "image/png"}
        request = urllib.request.Request(f"{address}/predict?format=json", picture.read_bytes(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert (told["height"], told["width"]) == (9, 14)
        process.send_signal(signal.SIGTERM)
        _, complained = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in complained
    finally:
        process.kill()
        process.communicate()
