"""A training process that is killed at any place, or interrupted, and started again ends in the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prunekit.run import RunDirectory

ROOT = Path(__file__).parents[3]
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell is started with it ignored
from pathlib import Path
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.workflows.train import train

class Say(Silent):
    def on_step(self, event):
        print("step", event.epoch, event.step, flush=True)

run = RunDirectory(Path(sys.argv[1]))
train(run.recipe(), run, Say())
"""


def _start(run: RunDirectory) -> subprocess.Popen[str]:
    paths = [ROOT, ROOT / "deploy"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", CHILD, str(run.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _finish(run: RunDirectory) -> None:
    with _start(run) as process:
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors


def _stop_at(run: RunDirectory, epoch: int, step: int, how: signal.Signals) -> None:
    with _start(run) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["step", str(epoch), str(step)]:
                process.send_signal(how)
                break
        process.communicate(timeout=200)
    assert process.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        (
            {"selection.strategy": "pfb", "selection.start": 0.2, "train.precision": "bf16"},
            [(1, 2, signal.SIGKILL), (2, 1, signal.SIGKILL), (4, 3, signal.SIGINT)],
        ),
        (
            {"selection.strategy": "random", "train.optimiser": "sgd", "train.checkpoint_every": 2},
            [(2, 3, signal.SIGINT), (3, 3, signal.SIGKILL)],
        ),
    ],
    ids=["pfb-bf16-adamw", "random-fp32-sgd"],
)
def test_killed_and_interrupted_trainings_end_in_the_same_weights(tiny, tmp_path, settings, stops):
    runs = [RunDirectory(tmp_path / name) for name in ("whole", "broken")]
    for run in runs:
        run.path.mkdir()
        run.write_recipe(tiny(**{"train.epochs": 4, **settings}))
    _finish(runs[0])
    for epoch, step, how in stops:
        _stop_at(runs[1], epoch, step, how)
    _finish(runs[1])
    assert runs[0].weights_path.read_bytes() == runs[1].weights_path.read_bytes()
    assert runs[0].model_path.read_bytes() == runs[1].model_path.read_bytes()
    assert not list(runs[1].path.glob(".writing-*"))
