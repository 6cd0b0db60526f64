"""Latencies measured on a device over a real sshd: layers, whole cut networks, lost connections, what is refused.

ONNX Runtime on the CPU stands in for TensorRT: no engine is built by these tests.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner

from prunekit.modelfile import load_model
from prunekit.run import open_run
from prunekit_cli.main import app
from prunekit_export.deploying import device_meter
from prunekit_export.errors import DeviceError, ExportError, ExportUsageError
from prunekit_export.latency import DeviceStopwatch
from prunekit_export.latency.layer_timing import OrtTimer
from prunekit_export.remote import Session

pytest.importorskip("onnxruntime")
SIZE = (1, 3, 16, 16)


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Keep what is measured in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def started(monkeypatch) -> list[Any]:
    """Return the connections that are opened to time models."""
    opened, real = list[Any](), Session.opened

    def recorded(self, *arguments, **named):
        opened.append(real(self, *arguments, **named))
        return opened[-1]

    monkeypatch.setattr(Session, "opened", recorded)
    return opened


def meter_of(device, **options):
    return device_meter(device.host(), "ort", python=device.python, **options)


def test_a_table_and_a_network_are_measured_there_and_kept_here(device, network, cache):
    told: list[tuple[int, int]] = []
    with meter_of(device, on_progress=lambda *step: told.append(step)) as meter:
        table = meter.table(network, SIZE)
        assert meter.network_ms(network, SIZE) > 0
        assert meter.machine == OrtTimer(1).machine == table.machine  # the device is this machine
    assert set(table.layers) == {"0", "2"}
    assert told[-1][0] == told[-1][1]
    assert len(list(cache.rglob("*.json"))) == 1
    runtimes = [path for path in (device.home / ".cache/prunekit/runtime").iterdir() if not path.name.startswith(".")]
    assert len(runtimes) == 1
    assert (runtimes[0] / "prunekit_runtime/__main__.py").is_file()


def lost_at(monkeypatch, started: list[Any], *numbers: int) -> None:
    """Cut the connection at these requests."""
    monkeypatch.setattr("prunekit_export.latency.device_timing.RETRY_AFTER_S", (0.1,) * 5)
    answered, asked = DeviceStopwatch._answered, list[str]()

    def losing(self, frame):
        asked.append(str(frame.header["do"]))
        if len(asked) in numbers:
            started[-1]._process.kill()
        return answered(self, frame)

    monkeypatch.setattr(DeviceStopwatch, "_answered", losing)


def test_a_connection_lost_in_the_middle_is_opened_again_and_nothing_is_measured_twice(
    device, network, started, monkeypatch
):
    lost_at(monkeypatch, started, 4, 9)
    with meter_of(device) as meter:
        meter.table(network, SIZE)
        points = meter._cache._points
    assert len(started) == 3
    assert {point.passes for point in points.values()} == {2}


def test_a_device_that_refuses_is_one_error_at_once(device):
    begun_s = time.monotonic()
    with pytest.raises(DeviceError, match="locked cannot be reached"), device_meter(device.host("locked"), "ort"):
        raise AssertionError("it was reached")
    assert time.monotonic() - begun_s < 20


def test_a_device_without_tensorrt_says_so_in_its_own_words_and_nothing_else_is_taken(device):
    with (
        pytest.raises(ExportError, match=r"orin cannot measure: .*(TensorRT|NVIDIA GPU)"),
        device_meter(device.host(), "tensorrt", python=device.python),
    ):
        raise AssertionError("it measured something")


@pytest.mark.parametrize(
    ("runtime", "precision", "message"), [("ort", "fp16", "fp32"), ("tflite", "fp32", "ort, tensorrt")]
)
def test_what_no_device_measures_is_refused(device, runtime, precision, message):
    with (
        pytest.raises(ExportUsageError, match=message),
        device_meter(device.host(), runtime, python=device.python, precision=precision),
    ):
        raise AssertionError("it measured something")


def test_the_end_of_the_meter_ends_the_process_there(device, network, started):
    with meter_of(device) as meter:
        meter.network_ms(network, SIZE)
        assert started[0]._process.poll() is None
    assert started[0]._process.poll() == 0


MEASURING = """
import sys
from pathlib import Path
from torch import nn
from prunekit_export.deploying import device_meter
from prunekit_export.remote import Host

network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
with device_meter(Host("orin", Path(sys.argv[1])), "ort", python=sys.executable) as meter:
    print("connected", flush=True)
    meter.table(network, (1, 3, 16, 16))
"""


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="no /proc here, which tells what runs")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_measures_there_ends_when_this_process_is_ended(device, number):
    line = [sys.executable, "-c", MEASURING, str(device.config)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"connected\n"
        assert working_in(device.home)
        process.send_signal(number)
        assert process.wait(30) != 0
    for _ in range(200):
        if not working_in(device.home):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {working_in(device.home)}")


def working_in(folder: Path) -> list[str]:
    """Return the processes that work in a folder or below it."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = os.readlink(process / "cwd")
            line = (process / "cmdline").read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        if place.startswith(f"{folder}/") and b"time-layers" in line:
            found.append(process.name)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Train a demo network for some seconds."""
    out = tmp_path_factory.mktemp("runs") / "0001-train"
    line = f"train --data shapes --size 64x96 --set data.train_images=16 --set data.val_images=4 --epochs 1 --out {out}"
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, result.output
    return out


def on(device, host: str = "orin") -> list[str]:
    return ["--on", host, "--on-python", device.python, "--ssh-config", str(device.config)]


def dense_ms(device, run: Path) -> float:
    with meter_of(device) as meter:
        return meter.network_ms(load_model(open_run(run)).segmenter, (1, 3, 64, 96))


@pytest.mark.slow
def test_a_network_is_cut_by_measurements_there_though_the_connection_is_lost(
    device, run, tmp_path, started, monkeypatch
):
    target_ms = 0.7 * dense_ms(device, run)
    started.clear()
    lost_at(monkeypatch, started, 12)
    out = tmp_path / "pruned"
    line = ["prune", str(run), "--target-latency", f"{target_ms:.4f}ms", "--latency-runtime", "ort", "--align", "1"]
    result = CliRunner().invoke(app, [*line, *on(device), "--epochs", "1", "--batches", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert len(started) == 2
    report = json.loads((out / "prune.json").read_text())
    assert report["machine"]["runtime"].startswith("onnxruntime ")
    stage = report["stages"][-1]
    assert stage["latency_measured_ms"] > 0  # by how much it is below the dense one's, other work here decides as well
    assert stage["macs_after"] < report["macs_before"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "-oProxyCommand=x", "--target-latency", "8ms"], "is no host"),
        (["--on", "orin"], "--on says how --target-latency is measured"),
        (["--on-python", "python3", "--target-latency", "8ms"], "--on-python says how to reach the device of --on"),
        (["--on", "orin", "--ssh-config", "no-file", "--target-latency", "8ms"], "--ssh-config no-file is no file"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run_is_made(run, tmp_path, arguments, message):
    out = tmp_path / "refused"
    result = CliRunner().invoke(app, ["prune", str(run), *arguments, "--out", str(out)])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not out.exists()


class _Entered(Exception):  # noqa: N818  how far the command came
    pass


def asked_of(monkeypatch) -> list[tuple[Any, ...]]:
    """Return what a meter on a device is asked for; nothing is measured."""
    asked = list[tuple[Any, ...]]()

    def meter(host, runtime, *, python, threads, precision, on_progress):
        asked.append((host.target, runtime, python, threads, precision))
        raise _Entered

    monkeypatch.setattr("prunekit_export.deploying.device_meter", meter)
    return asked


def test_a_device_is_measured_in_tensorrt_unless_another_runtime_is_named(run, tmp_path, monkeypatch):
    asked = asked_of(monkeypatch)
    line = ["prune", str(run), "--target-latency", "8ms", "--on", "nvidia@orin", "--out", str(tmp_path / "out")]
    for more in ([], ["--latency-runtime", "ort", "--on-python", "/opt/py"], ["--latency-precision", "fp16"]):
        assert isinstance(CliRunner().invoke(app, [*line, *more]).exception, _Entered)
    assert asked == [
        ("nvidia@orin", "tensorrt", "python3", 1, "fp32"),
        ("nvidia@orin", "ort", "/opt/py", 1, "fp32"),
        ("nvidia@orin", "tensorrt", "python3", 1, "fp16"),
    ]
    assert not (tmp_path / "out").exists()
