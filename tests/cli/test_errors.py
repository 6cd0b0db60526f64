import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "0"], r"train.epochs"),
        (["train", "--data", "citiscapes"], "did you mean 'cityscapes'"),
        (["train", "--data", "cityscapes"], "https://www.cityscapes-dataset.com"),
        (["train", "--set", "train.speed=3"], "train.speed"),
        (["train", "--set", "speed=3"], "section.key=value"),
        (["train", "--recipe", "no.toml"], "does not exist"),
        (["eval", "runs/0001-trian"], "does not exist"),
        (["train", "--model", "smp:Nonsense"], "Nonsense"),
        (["train", "--data", "camvid", "--root", "nowhere"], "nowhere"),
        (["train", "--out", "/proc/nowhere"], "No such file"),
        (["import", "--model", "smp:Unet", "--weights", "no.pt", "--size", "64x64", "--data", "shapes"], "no.pt"),
        (["prune"], "prunekit train"),
        (["export"], "prunekit train"),
    ],
)
def test_a_wrong_request_leaves_no_run_behind(invoke, tmp_path, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("Error:") == 1
    assert "changed by" not in result.stderr  # settings are shown when they are known to fit
    assert not list(tmp_path.glob("runs/*"))


def test_debug_keeps_the_traceback(invoke, monkeypatch):
    from prunekit.errors import ConfigError

    monkeypatch.setenv("PRUNEKIT_DEBUG", "1")
    with pytest.raises(ConfigError):
        invoke("train", "--epochs", "0")


def test_ctrl_c_says_how_to_go_on(tmp_path):
    # A background job of a shell is started with the interrupt ignored, and Python leaves it so.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from prunekit_cli.main import main; main()"
    )
    settings = ["data.height=32", "data.width=48", "data.train_images=8", "data.val_images=2", "train.threads=1"]
    arguments = ["train", "--epochs", "5000", "--batch-size", "4", *(f"--set={setting}" for setting in settings)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "runs/0001-train/state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "prunekit train --resume runs/0001-train" in errors
    assert "Traceback" not in errors
