import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from prunekit_cli.showing import output
from prunekit_runtime.stopping import Stopped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "0"], "--epochs takes a whole number from 1"),
        (["train", "--data", "citiscapes"], "did you mean 'cityscapes'"),
        (["train", "--data", "cityscapes"], "https://www.cityscapes-dataset.com"),
        (["train", "--set", "train.speed=3"], "train.speed"),
        (["train", "--set", "speed=3"], "section.key=value"),
        (["train", "--recipe", "no.toml"], "does not exist"),
        (["eval", "runs/0001-trian"], "does not exist"),
        (["train", "--set", "train.epohcs=3"], "--set train.epohcs: there is no such setting. Did you mean epochs?"),
        (["train", "--set", "trian.epochs=3"], "Did you mean train?"),
        (["train", "--precision", "bf17"], "--precision takes fp32, bf16 or fp16, got 'bf17'. Did you mean bf16?"),
        (
            ["train", "--select", "pfbb"],
            "--select takes none, random, pfb, rs2 or classes, got 'pfbb'. Did you mean pfb?",
        ),
        (["train", "--head", "css"], "Did you mean ccs?"),
        (["train", "--lr", "-1"], "--lr takes a number above 0 and up to 1000, got -1.0."),
        (["train", "--model", "smp:Unett"], "Did you mean smp:Unet?"),
        (["train", "--model", "spm:Unet"], "Did you mean smp:Unet?"),
        (["train", "--model", "smp:Unet?encoder=resnet81"], "smp has no encoder 'resnet81'. Did you mean resnet18?"),
        (["train", "--model", "smp:Unet?encodr=resnet18"], "Did you mean encoder?"),
        (["train", "--model", "torchvision:fcn_resnet51"], "Did you mean torchvision:fcn_resnet50?"),
        (["train", "--weights", "best.pth"], "best.pth does not exist"),
        (["train", "--device", "gpu"], "--device takes auto, cpu or cuda, got 'gpu'."),
        (["train", "--resume", "runs/0009-train"], "Run runs/0009-train does not exist."),
        (["import", "--model", "smp:Unet"], "Where are the weights?"),
        (["predict", "nothing.onnx", "photos"], "photos does not exist"),
        (["inspect", "nothing"], "There is no run 'nothing' either"),
        (["profile", "nothing.onnx"], "nothing.onnx does not exist"),
        (["export", "--precision", "fp61"], "Did you mean fp16?"),
        (["status", "nowhere"], "Run nowhere does not exist"),
        (["runs", "nowhere"], "The folder nowhere does not exist"),
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
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("Error:") == 1
    assert "changed by" not in result.stderr  # settings are shown when they are known to fit
    assert not list(tmp_path.glob("runs/*"))


def test_debug_keeps_the_traceback(invoke, monkeypatch):
    from prunekit.errors import ConfigError

    monkeypatch.setenv("PRUNEKIT_DEBUG", "1")
    with pytest.raises(ConfigError):
        invoke("train", "--epochs", "0")


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, "Error: Interrupted."),
        (signal.SIGTERM, 143, "Error: Interrupted by SIGTERM."),
        (signal.SIGHUP, 129, "Error: Interrupted by SIGHUP."),
    ],
)
def test_a_signal_ends_a_training_cleanly_and_says_how_to_go_on(tmp_path, number, code, told):
    process = _training(tmp_path, workers=2 if number == signal.SIGTERM else 0)
    _wait_for(tmp_path / "runs/0001-train/state.safetensors")
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert "Go on with: prunekit train --resume runs/0001-train" in errors
    assert told in errors
    assert "Traceback" not in errors
    left = {path.name for path in (tmp_path / "runs/0001-train").iterdir()}
    assert left == {"recipe.toml", "labels.json", "metrics.jsonl", "state.safetensors"}


def test_a_terminal_that_closes_takes_nothing_more_and_the_code_stays(invoke, monkeypatch):
    def fail(_: str) -> None:
        try:
            raise Stopped(signal.SIGHUP)
        except KeyboardInterrupt:
            raise OSError(errno.EIO, "Input/output error")  # noqa: B904  as a bar that is taken down

    monkeypatch.setattr(output, "result", fail)
    assert invoke("recipe").exit_code == 129


def test_a_signal_that_is_ignored_stays_so():
    """As `nohup` has it."""
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "from prunekit_runtime.stopping import stop_on_signals; stop_on_signals(); "
        "os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert (done.returncode, done.stdout) == (0, "alive\n")


def _training(folder, *, workers: int = 0) -> subprocess.Popen[str]:
    # A background job of a shell is started with the interrupt ignored, and Python leaves it so.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # which nohup lets the tests ignore
        "from prunekit_cli.main import main; main()"
    )
    settings = ["data.height=32", "data.width=48", "data.train_images=8", "data.val_images=2", "train.threads=1"]
    settings.append(f"train.workers={workers}")
    arguments = ["train", "--epochs", "5000", "--batch-size", "4", *(f"--set={setting}" for setting in settings)]
    arguments += ["--model", "python:prunekit.models.street:street_net?width=4"]
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=_environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _wait_for(path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
