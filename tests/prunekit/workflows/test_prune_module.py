"""One call prunes a module as the command would: what matters stays, wherever it stands."""

import pytest
import torch
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import analyse, arbitrary_plan, exactness, pruned, uniform_plan
from prunekit.pruning.criteria.registry import CRITERIA
from prunekit.workflows.prune_module import prune_module


def network() -> nn.Module:
    """What is read stands in the second half of the channels: nothing reads the first."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 4, 1)]
    with torch.no_grad():
        layers[3].weight[:, :32] = 0
    return nn.Sequential(*layers).eval()


def batches(count: int = 2, size: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(2, 3, size, size, generator=generator) for _ in range(count)]
    return [(image, torch.randint(0, 4, (2, size, size), generator=generator)) for image in images]


def settled(module: nn.Module) -> nn.Module:
    """Batch norms that have seen the images: the call measures them anew."""
    module[1].momentum = None
    with torch.no_grad():
        for images, _ in batches():
            module.train()(images)
    return module.eval()


def agreement(one: nn.Module, other: nn.Module) -> float:
    images = torch.cat([image for image, _ in batches()])
    with torch.no_grad():
        return float((one(images).argmax(1) == other(images).argmax(1)).float().mean())


def test_what_is_read_stays_and_an_arbitrary_cut_loses_it() -> None:
    dense = settled(network())
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    cut = prune_module(dense, batches(), num_classes=4, ratio=0.5)
    assert cut.network[0].out_channels == 32
    assert cut.macs_after == cut.macs_before // 2
    assert cut.exactness <= 1e-4
    assert agreement(dense, cut.network) > 0.99
    assert type(cut.network[0]) is nn.Conv2d
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())
    arbitrary = pruned(dense, arbitrary_plan(analyse(dense, (batches()[0][0],)), 0.5))
    assert arbitrary[0].out_channels == 32
    assert agreement(dense, arbitrary) < 0.9


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_prunes_a_module(name: str) -> None:
    dense = settled(network())
    cut = prune_module(dense, iter(batches()), num_classes=4, ratio=0.5, criterion_name=name)
    assert cut.network[0].out_channels == 32
    assert exactness(dense, cut.plan, (batches()[0][0],)) <= 1e-4


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ((torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 4, dtype=torch.int64)), "same size"),
        ((torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), 4)), "Labels run from 4 to 4"),
        ((torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), -1)), "Labels run from -1"),
        ((torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8)), "whole ones"),
        ((torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 8, 8, dtype=torch.int64)), "finite"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batch, says: str) -> None:
    with pytest.raises(PruneError, match=says):
        prune_module(network(), [batch], num_classes=4)


def test_no_batches_are_refused() -> None:
    with pytest.raises(PruneError, match="no batches"):
        prune_module(network(), [], num_classes=4)


def test_a_plan_without_scores_is_not_made() -> None:
    coupling = analyse(network(), (torch.zeros(1, 3, 8, 8),))
    with pytest.raises(TypeError, match="scores"):
        uniform_plan(coupling, 0.5)
    with pytest.raises(PruneError, match="Group 0 has no scores"):
        uniform_plan(coupling, 0.5, scores={})
    with pytest.raises(PruneError, match="not a finite number"):
        uniform_plan(coupling, 0.5, scores={"0": [float("nan")] * 64})
