"""The device's side of timing: a real `time-layers` process answers requests, with errors in words."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.measuring.latency import LatencyReport
from prunekit_runtime.timing.frames import Frame, read_frame, write_frame
from prunekit_runtime.timing.kernels import Kernel

pytest.importorskip("onnxruntime")
WriteOnnx = Callable[..., Path]
EFFORT = {"budget_ms": 2.0, "least": 1, "most": 2}


@pytest.fixture(scope="module")
def device() -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "prunekit_runtime", "time-layers", "--backend", "ort"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process


def ask(device: "subprocess.Popen[bytes]", header: dict[str, Any], payload: bytes = b"") -> dict[str, Any]:
    assert device.stdin is not None
    assert device.stdout is not None
    write_frame(device.stdin, Frame(header, payload))
    answer = read_frame(device.stdout)
    assert answer is not None
    return dict(answer.header)


def test_a_device_names_itself_and_times_kernels_and_models(
    device: "subprocess.Popen[bytes]", write_onnx: WriteOnnx
) -> None:
    model_bytes = write_onnx(height=16, width=16).read_bytes()
    told = ask(device, {"do": "describe"})
    assert told["runtime"].startswith("onnxruntime ")
    assert told["device"]["python"]
    rows = ask(device, {"do": "kernels", "input_shape": [1, 3, 16, 16], **EFFORT}, model_bytes)["kernels"]
    kernels = [Kernel.from_json(row) for row in rows]
    assert any("Conv" in kernel.op and kernel.ms > 0 for kernel in kernels)
    report = LatencyReport.from_json(ask(device, {"do": "whole", "input_shape": [1, 3, 16, 16]}, model_bytes)["report"])
    assert report.p50_ms > 0


@pytest.mark.parametrize(
    ("header", "payload", "words"),
    [
        ({"do": "dance"}, b"", "does not know the request"),
        ({}, b"", "does not know the request"),
        ({"do": "whole", "input_shape": []}, b"x", "input shape"),
        ({"do": "whole", "input_shape": [1, -3]}, b"x", "input shape"),
        ({"do": "whole", "input_shape": "1x3"}, b"x", "input shape"),
        ({"do": "kernels", "input_shape": [1, 3, 8, 8], **EFFORT, "most": 10**9}, b"x", "most"),
        ({"do": "kernels", "input_shape": [1, 3, 8, 8], **EFFORT}, b"no model", "cannot load"),
        ({"do": "whole", "input_shape": [1, 3, 8, 8]}, b"no model", "cannot load"),
    ],
)
def test_a_request_that_cannot_be_followed_is_answered_and_the_next_one_is_read(
    device: "subprocess.Popen[bytes]", header: dict[str, Any], payload: bytes, words: str
) -> None:
    assert words in ask(device, header, payload)["error"]
    assert "runtime" in ask(device, {"do": "describe"})


def test_a_host_that_is_gone_ends_what_is_being_measured(write_onnx: WriteOnnx) -> None:
    command = [sys.executable, "-m", "prunekit_runtime", "time-layers", "--backend", "ort"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask(process, {"do": "describe"})
        long = {"budget_ms": 1e5, "least": 10**5, "most": 10**5}
        request = Frame({"do": "kernels", "input_shape": [4, 3, 512, 512], **long}, write_onnx().read_bytes())
        write_frame(process.stdin, request)
        process.stdout.close()
        assert process.wait(60) == 143
