"""`prunekit deploy` over a real sshd: copied, built, checked there; killed and gone on with; one of two refusing.

ONNX Runtime on the CPU stands in for TensorRT: no engine is built by these tests.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_export.deploying.outcome import rows_of, sentences_of
from prunekit_runtime.bundle import open_bundle

pytest.importorskip("onnxruntime")
KILLS = 10


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """Train a demo network for some seconds."""
    out = tmp_path_factory.mktemp("runs") / "0001-train"
    line = f"train --data shapes --size 64x96 --set data.train_images=48 --set data.val_images=8 --epochs 8 --out {out}"
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def bundle(run, tmp_path_factory) -> Path:
    """Return a bundle of it."""
    out = tmp_path_factory.mktemp("bundles") / "small"
    result = CliRunner().invoke(app, ["bundle", str(run), "-o", str(out), "--precision", "fp32"])
    assert result.exit_code == 0, result.output
    return out


def line(device, source: Path, *hosts: str, remote: str) -> list[str]:
    """Return the arguments of a deployment."""
    own = ["--ssh-config", str(device.config), "--python", device.python, "--backend", "ort"]
    return ["deploy", str(source), *hosts, *own, "--remote-dir", remote]


def test_a_run_is_copied_built_checked_and_measured(device, run):
    result = CliRunner().invoke(app, [*line(device, run, "orin", remote="whole"), "--precision", "fp32"])
    assert result.exit_code == 0, result.output
    assert "passed" in result.output
    reports = run / "deploy/orin"
    assert json.loads((reports / "check.json").read_text())["passed"]
    assert json.loads((reports / "build.json").read_text())["built"]
    bench = json.loads((reports / "bench.json").read_text())
    assert bench["benched"][0]["latency"]["p50_ms"] > 0
    opened = open_bundle(device.home / "whole/0001-train")
    assert [entry.name for entry in opened.models] == ["fp32"]
    assert (opened.reports_dir / "check.json").exists()


def test_one_device_that_refuses_does_not_stop_the_other(device, bundle):
    result = CliRunner().invoke(app, [*line(device, bundle, "locked", "orin", remote="two"), "--skip-bench"])
    assert result.exit_code == 1
    assert "locked FAILED: locked cannot be reached" in " ".join(result.output.split())
    assert (device.home / "two/0001-train/reports/check.json").exists()


def test_two_devices_side_by_side_as_json(device, bundle):
    hosts = line(device, bundle, "orin", remote="pair")
    assert CliRunner().invoke(app, [*hosts, "--skip-bench"]).exit_code == 0
    result = CliRunner().invoke(app, [*line(device, bundle, "nano", "orin", remote="pair"), "--skip-bench", "--json"])
    assert result.exit_code == 0, result.output
    outcomes = json.loads(result.stdout)
    assert [(outcome["host"], outcome["passed"]) for outcome in outcomes] == [("nano", True), ("orin", True)]


def test_killed_at_random_moments_it_goes_on_and_nothing_half_copied_is_taken(device, bundle):
    moments = random.Random(0)
    final = device.home / "killed/0001-train"
    own = [*line(device, bundle, "orin", remote="killed"), "--skip-bench"]
    command = [sys.executable, "-c", "import sys; from prunekit_cli.main import main; sys.exit(main())", *own]
    start_s = time.monotonic()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    whole_s = time.monotonic() - start_s
    for number in range(KILLS):
        if number % 3 == 0:
            subprocess.run(["rm", "-rf", str(final)], check=True)
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(0.1, 1.0) * whole_s)
        os.killpg(process.pid, signal.SIGKILL if number % 2 else signal.SIGTERM)
        process.wait()
        if final.exists():
            open_bundle(final)  # whole, whatever the moment
    result = CliRunner().invoke(app, own)
    assert result.exit_code == 0, result.output
    open_bundle(final)
    assert sorted(path.name for path in final.parent.iterdir()) == ["0001-train"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--python", "no-such-python"], "no-such-python"),
        (["--python", "python3 -c x"], "plain path"),
        (["--remote-dir", "../elsewhere"], "without '..'"),
        (["--backend", "trt"], "tensorrt, ort"),
        (["--ssh-config", "no/such"], "is no file"),
        (["--remote-dir", "/proc/none"], "orin says"),
    ],
)
def test_what_cannot_be_is_one_sentence(device, bundle, arguments, said):
    result = CliRunner().invoke(app, [*line(device, bundle, "orin", remote="x"), *arguments])
    assert result.exit_code != 0
    assert said in " ".join(result.output.split()) + str(result.exception)
    assert "Traceback" not in result.output


def test_without_tensorrt_there_the_error_names_the_other_backend(device, bundle):
    own = ["--ssh-config", str(device.config), "--python", device.python, "--remote-dir", "trt"]
    result = CliRunner().invoke(app, ["deploy", str(bundle), "orin", *own])
    assert result.exit_code == 1
    assert "--backend ort" in result.output


def test_a_device_s_reports_are_a_stranger_s():
    reports = {
        "check": {
            "checked": [
                {"entry": "\x1b[2Jfp32", "measured": {"miou": "x", "agreement": float("inf")}, "passed": "yes"}
            ],
            "failed": [{"entry": "fp16", "error": "no\x07 memory"}, 3],
        },
        "bench": {"benched": "none"},
    }
    (row,) = rows_of(reports)
    assert (row.model, row.miou, row.agreement, row.passed) == ("\\x1b[2Jfp32", None, None, None)
    assert list(sentences_of(reports)) == ["check of fp16: no\\x07 memory"]
