"""What a training does to its folder: nothing before it is known to fit, nothing while another one is at it."""

import sys
from pathlib import Path

import pytest
import torch

from prunekit.errors import ModelError, PrunekitError, RunError
from prunekit.models.zoo import _BUILDERS, build
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.workflows.train import train


class StoppedError(Exception):
    pass


class AtStep(Silent):
    """Does something after a step, counted from 1 over the whole run."""

    def __init__(self, step, what):
        self.left, self.what = step, what

    def on_step(self, event):
        del event
        self.left -= 1
        if self.left == 0:
            self.what()


def stop():
    raise StoppedError


@pytest.mark.parametrize(
    "settings",
    [
        {"train.batch_size": 1, "selection.strategy": "random"},
        {"train.batch_size": 100},
        {"train.precision": "fp16"},
        {"data.name": "camvid", "data.root": "nowhere"},
        {"model.name": "smp:Nothing"},
        {"selection.strategy": "pfb", "selection.stem": "nowhere"},
        {"train.sparsity": "group"},
        {"train.lr": 1e30, "train.warmup_steps": 0, "train.optimiser": "sgd", "train.clip_norm": 0},
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_a_refused_training_leaves_nothing_in_the_way_of_the_corrected_one(tiny, run, settings):
    with pytest.raises(PrunekitError):
        train(tiny(**settings), run, resume=False)
    assert list(run.path.iterdir()) == []


def test_a_training_that_fails_when_it_is_resumed_keeps_its_recipe(tiny, run):
    run.write_recipe(tiny())
    with pytest.raises(PrunekitError):
        train(tiny(**{"train.batch_size": 100}), run)
    assert run.recipe() == tiny()


def test_a_second_training_changes_nothing(tiny, run):
    first, second = tiny(**{"train.epochs": 1}), tiny(**{"train.epochs": 1, "train.seed": 1})
    found = []

    def intrude():
        for resume in (False, True):
            with pytest.raises(RunError, match="Another process"):
                train(second, run, resume=resume)
            found.append(run.recipe())

    train(first, run, AtStep(2, intrude))
    assert found == [first, first]
    assert run.recipe() == first


def test_a_run_is_locked_before_its_data_are_opened(tiny, run):
    """Not after minutes of reading images: at once, and whatever the second one's recipe says."""
    with run.locked(), pytest.raises(RunError, match="Another process"):
        train(tiny(**{"data.name": "camvid", "data.root": "nowhere"}), run)


def test_a_kill_at_any_write_resumes_to_the_same_bits(tiny, tmp_path, monkeypatch):
    recipe = tiny(**{"train.epochs": 2, "train.rewind_epoch": 1, "selection.strategy": "pfb"})
    genuine, done = Path.replace, []

    def replace_until(fatal):
        def replace(self, target):
            if len(done) == fatal:
                raise KeyboardInterrupt
            done.append(target)
            return genuine(self, target)

        done.clear()
        monkeypatch.setattr(Path, "replace", replace)

    replace_until(None)
    whole = RunDirectory(tmp_path / "whole")
    train(recipe, whole)
    files = {path.name for path in whole.path.iterdir()}
    assert len(done) == len(files) + 2 == 9  # metrics and state once more each
    for fatal in range(len(done)):
        run = RunDirectory(tmp_path / f"killed-{fatal}")
        replace_until(fatal)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, run)
        assert run.recipe_path.exists() == (fatal > 0)
        replace_until(None)
        train(recipe, run)
        assert {path.name for path in run.path.iterdir()} == files
        for name in ("model.safetensors", "model.json", "rewind.safetensors"):
            assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


MODULE = """
import torch
from prunekit.models.street import StreetNet

def make(num_classes, weights):
    network = StreetNet(num_classes, 4)
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network
"""


@pytest.fixture
def from_file(tmp_path, monkeypatch):
    """The settings of a network that starts from a file, and that file."""
    (tmp_path / "starting_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "starting_module", raising=False)
    path = tmp_path / "start.pth"
    torch.save(build("python:prunekit.models.street:street_net?width=4", num_classes=10).network.state_dict(), path)
    return {"model.name": f"python:starting_module:make?weights={path}"}, path


def test_a_training_that_started_from_a_file_goes_on_without_it(tiny, from_file, tmp_path):
    settings, path = from_file
    whole, broken = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "broken")
    train(tiny(**settings), whole)
    with pytest.raises(StoppedError):
        train(tiny(**settings), broken, AtStep(5, stop))
    path.unlink()
    train(broken.recipe(), broken)
    assert whole.weights_path.read_bytes() == broken.weights_path.read_bytes()
    assert whole.model_path.read_bytes() == broken.model_path.read_bytes()


def test_a_training_without_a_checkpoint_says_which_file_it_starts_from(tiny, from_file, run):
    settings, path = from_file
    with pytest.raises(StoppedError):
        train(tiny(**settings), run, AtStep(1, stop))
    path.unlink()
    with pytest.raises(ModelError, match=r"start\.pth.*Put it back"):
        train(run.recipe(), run)
    assert run.recipe() == tiny(**settings)


def test_a_resumed_training_asks_for_no_pretrained_weights(tiny, run, monkeypatch):
    asked = []

    def offline(spec, num_classes, pretrained):
        asked.append(pretrained)
        return build("python:prunekit.models.street:street_net?width=4", num_classes=num_classes).network

    recipe = tiny(**{"model.name": "smp:Unet", "model.pretrained": True})
    monkeypatch.setitem(_BUILDERS, "smp", offline)
    with pytest.raises(StoppedError):
        train(recipe, run, AtStep(5, stop))
    train(recipe, run)
    assert asked == [True, False]
