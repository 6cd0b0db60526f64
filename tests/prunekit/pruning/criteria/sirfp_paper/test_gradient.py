import pytest
import torch
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import analyse
from prunekit.pruning.criteria.sirfp_paper import GradientTerm
from prunekit.pruning.criteria.sirfp_paper.members import find_members


def network(affine: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6, affine=affine), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()
    if affine:
        nn.init.normal_(module[1].weight)
    return module


def test_the_average_moves_only_where_descent_would_shrink_the_scale() -> None:
    module = network()
    term = GradientTerm(module, find_members(module, analyse(module, (torch.zeros(1, 3, 4, 4),))).layers, decay=0.9)
    expected = [0.0] * 6
    moved = [0] * 6
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        module.zero_grad()
        module(torch.randn(2, 3, 4, 4, generator=generator)).square().mul(
            torch.randn(1, 2, 1, 1, generator=generator)
        ).sum().backward()
        term.update()
        for channel in range(6):
            gradient, scale = float(module[1].weight.grad[channel]), float(module[1].weight.detach()[channel])
            if gradient * scale > 0:
                expected[channel] = 0.9 * expected[channel] + 0.1 * abs(gradient)
                moved[channel] += 1
    assert term.values()["1"].tolist() == pytest.approx(expected, rel=1e-5)
    assert 0 < sum(moved) < 30, "some steps move and some do not"


def test_without_a_gradient_nothing_moves() -> None:
    module = network()
    term = GradientTerm(module, find_members(module, analyse(module, (torch.zeros(1, 3, 4, 4),))).layers)
    term.update()
    assert term.values()["1"].tolist() == [0] * 6


def test_a_norm_without_a_scale_and_an_infinite_gradient_are_refused() -> None:
    bare = network(affine=False)
    members = find_members(bare, analyse(bare, (torch.zeros(1, 3, 4, 4),)))
    with pytest.raises(PruneError, match="Batch norm 1 has no scale"):
        GradientTerm(bare, members.layers)
    module = network()
    term = GradientTerm(module, find_members(module, analyse(module, (torch.zeros(1, 3, 4, 4),))).layers)
    module[1].weight.grad = torch.full((6,), torch.inf) * module[1].weight.detach().sign()
    term.update()
    with pytest.raises(PruneError, match="not finite"):
        term.values()
