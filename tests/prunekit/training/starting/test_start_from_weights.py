"""A training that starts from a file of weights, and goes on without it."""

import pytest
import torch
from safetensors.torch import load_file

from prunekit.models.zoo import build
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.workflows.train import train

SPEC = "python:prunekit.models.street:street_net?width=4"


class Stop(Silent):
    def on_epoch(self, _):
        raise KeyboardInterrupt


def recipe(path, lr=1e-3):
    data = {"height": 32, "width": 48, "train_images": 4, "val_images": 2}
    settings = {"epochs": 2, "batch_size": 2, "threads": 1, "device": "cpu", "lr": lr}
    return parse_recipe({"data": data, "model": {"name": SPEC, "weights": str(path)}, "train": settings})


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(5)
    network = build(SPEC, num_classes=10).network
    torch.save({"model": network.state_dict()}, tmp_path / "start.pth")
    return tmp_path / "start.pth", network.state_dict()


def test_a_training_starts_from_the_file(tmp_path, weights):
    path, state = weights
    told = []
    run = RunDirectory(tmp_path / "run")
    train(recipe(path, lr=1e-12), run, on_weights=told.append)
    assert told[0].loaded == len(state)
    trained = load_file(run.weights_path)
    learnt = [name for name in state if name.endswith("weight")]
    assert all(torch.allclose(trained[name], state[name], atol=1e-6) for name in learnt)
    assert run.recipe().model.weights == str(path)


def test_a_run_goes_on_without_the_file_and_ends_in_the_same_bits(tmp_path, weights):
    path, _ = weights
    whole, stopped = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "stopped")
    train(recipe(path), whole)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(path), stopped, Stop())
    path.unlink()
    train(stopped.recipe(), stopped, trust_code=False)
    assert stopped.weights_path.read_bytes() == whole.weights_path.read_bytes()


def test_a_file_that_does_not_fit_leaves_the_folder_as_it_was(tmp_path, weights):
    from prunekit.errors import ModelError

    path, state = weights
    torch.save({**state, "classifier.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"classifier\.weight"):
        train(recipe(path), RunDirectory(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
