import pytest
import torch
from torch import nn

from prunekit.recipe import TrainConfig
from prunekit.training.optimisers import (
    load_optimiser_tensors,
    make_optimiser,
    optimiser_tensors,
    parameter_groups,
)


def _network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, groups=4))
    return network.to(memory_format=torch.channels_last)


def _step(network: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    network(images).square().mean().backward()
    optimiser.step()


def test_every_learning_parameter_is_in_one_group_and_only_weights_decay():
    network = _network()
    network[0].bias.requires_grad_(False)
    decaying, plain = parameter_groups(network, 0.1)
    assert {id(p) for p in decaying["params"]} == {id(network[0].weight), id(network[2].weight)}
    assert {id(p) for p in plain["params"]} == {id(network[1].weight), id(network[1].bias), id(network[2].bias)}
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_memory_survives_the_way_through_plain_tensors_bitwise(kind):
    config = TrainConfig(optimiser=kind)
    network, again = _network(), _network()
    optimiser, other = make_optimiser(network, config), make_optimiser(again, config)
    _step(network, optimiser, 1)
    again.load_state_dict(network.state_dict())
    saved = {name: value.clone(memory_format=torch.contiguous_format) for name, value in _state(network, optimiser)}
    load_optimiser_tensors(again, other, saved)
    for parameter, moments in other.state.items():
        for moment in moments.values():
            assert moment.shape == () or moment.stride() == parameter.stride()
    _step(network, optimiser, 2)
    _step(again, other, 2)
    for one, two in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def _state(network: nn.Module, optimiser: torch.optim.Optimizer):
    return optimiser_tensors(network, optimiser).items()
