import json
import math

import pytest
import torch
from safetensors import safe_open
from torch import nn

from prunekit.errors import ModelError, RunError
from prunekit.modelfile import new_card, save_model
from prunekit.models.segmenter import Segmenter
from prunekit.models.soundness import check_logits
from prunekit.recipe import ModelConfig
from prunekit.run import RunDirectory
from prunekit.training.evaluate import evaluate
from prunekit.training.events import Silent
from prunekit.workflows.train import build_network, train


class Poison(Silent):
    """Spoils the network after the last step of an epoch, as an update that is too large does."""

    def __init__(self, monkeypatch, epoch: int, spoil) -> None:
        self.epoch, self.spoil = epoch, spoil
        self.networks = []
        monkeypatch.setattr("prunekit.workflows.train.build_network", self._build)

    def _build(self, *arguments, **named):
        self.networks.append(build_network(*arguments, **named))
        return self.networks[-1]

    def on_step(self, event):
        if (event.epoch, event.step) == (self.epoch, event.steps):
            with torch.no_grad():
                self.spoil(self.networks[-1].network)


def _parameter(value):
    def spoil(network):
        list(network.parameters())[-1].view(-1)[-1] = value

    return spoil


def _statistics(network):
    next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).running_var[0] = math.inf


def _huge(network):
    for parameter in network.parameters():
        parameter *= 1e9


SPOILS = {"nan": _parameter(math.nan), "inf": _parameter(-math.inf), "statistics": _statistics, "huge": _huge}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_blow_up_in_the_very_last_step_leaves_no_model(tiny, run, monkeypatch, spoil):
    watch = Poison(monkeypatch, 1, SPOILS[spoil])
    with pytest.raises(RunError, match=r"After epoch 1: .*Lower train\.lr"):
        train(tiny(**{"train.epochs": 1}), run, watch)
    assert not run.model_path.exists()
    assert not run.state_path.exists()
    assert not run.metrics()


def test_the_checkpoint_of_before_is_kept_and_goes_on_to_the_same_bits(tiny, run, tmp_path, monkeypatch):
    recipe, whole = tiny(), RunDirectory(tmp_path / "whole")
    whole.path.mkdir()
    train(recipe, whole)
    watch = Poison(monkeypatch, 2, _parameter(math.nan))
    with pytest.raises(RunError, match=r"After epoch 2: .*state\.safetensors keeps the network of before"):
        train(recipe, run, watch)  # eval_every is 5: no score was due, and yet it is seen
    with safe_open(run.state_path, framework="pt") as file:
        assert json.loads(file.metadata()["prunekit"])["epochs_done"] == 1
    train(recipe, run)
    assert run.weights_path.read_bytes() == whole.weights_path.read_bytes()


def test_a_loss_that_is_finite_and_absurd_stops_the_training(tiny, run, monkeypatch):
    watch = Poison(monkeypatch, 1, _huge)
    with pytest.raises(RunError, match=r"The loss is .* at epoch 2, step 1\..*Lower train\.lr"):
        train(tiny(**{"train.eval_every": 9}), run, watch)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e10])
@pytest.mark.parametrize("seed", range(5))
def test_one_logit_that_is_no_number_is_enough(value, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 7, 9, generator=generator)
    check_logits(logits * 1e6)
    logits.view(-1)[int(torch.randint(logits.numel(), (), generator=generator))] = value
    with pytest.raises(ModelError, match="The network gives logits"):
        check_logits(logits)


def test_a_network_of_nan_gets_no_score(tiny, tiny_data):
    recipe = tiny()
    segmenter = build_network(recipe, len(tiny_data["val_set"].classes))
    contract = new_card(recipe.model, tiny_data["val_set"].classes, _contract(recipe)).contract
    with torch.no_grad():
        next(segmenter.parameters()).view(-1)[0] = math.nan
    with pytest.raises(ModelError, match="not finite"):
        evaluate(segmenter, tiny_data["val_set"], contract, batch_size=2, device=torch.device("cpu"))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 1)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    def forward(self, images):
        return self.conv(images)


def test_weights_that_are_not_finite_are_not_written_and_a_mask_of_infinity_is(tiny, tiny_data, run):
    network = Masked()
    segmenter = Segmenter(network, num_classes=10, stride=1)
    card = new_card(ModelConfig(), tiny_data["train_set"].classes, _contract(tiny()))
    save_model(run, segmenter, card)
    before = run.weights_path.read_bytes()
    for tensor, value in ((network.conv.bias.data, math.inf), (network.mask, math.nan)):
        tensor[1], kept = value, float(tensor[1])
        with pytest.raises(ModelError, match="of the network is not finite"):
            save_model(run, segmenter, card)
        tensor[1] = kept
    assert run.weights_path.read_bytes() == before


def _contract(recipe):
    from prunekit.data.transforms import contract_of

    return contract_of(recipe.data, 1)
