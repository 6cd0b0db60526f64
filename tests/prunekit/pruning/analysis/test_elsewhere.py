"""Code that goes another way in training, with several images or at another size: cut right there too, or frozen."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit.errors import PruneError
from prunekit.pruning import analyse, masked, pruned, verify
from prunekit.pruning.surgery import check_exact, make_plan

TOLERANCE = 1e-10
Middle = Callable[["Network", Tensor], Tensor]
PLACES = {
    "training": (True, 2, 32),
    "several images": (False, 3, 32),
    "small": (False, 1, 16),
    "large": (False, 1, 64),
}


class Network(nn.Module):
    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.a, self.norm, self.out = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Conv2d(12, 4, 1)
        self.b, self.side = nn.Conv2d(12, 12, 1), nn.Conv2d(6, 12, 1)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.middle(self, self.norm(self.a(x)))).mean((2, 3))


def centred(x: Tensor) -> Tensor:
    """A mean over channels: it changes when one leaves."""
    return x - x.mean(1, keepdim=True)


ELSEWHERE: dict[str, Callable[[nn.Module, Tensor], bool]] = {
    "training": lambda module, _: module.training,
    "several images": lambda _, x: len(x) > 1,
    "small": lambda _, x: x.shape[2] < 32,
    "large": lambda _, x: x.shape[2] > 32,
}
WAYS: dict[str, Middle] = {
    "centred": lambda _, x: centred(x),
    "picked": lambda net, x: net.side(x[:, 3:9]),
    "written size": lambda _, x: x * torch.linspace(1, 2, 12, dtype=x.dtype).view(12, 1, 1),
    "fits": lambda net, x: net.b(x) + x,
}


def built(where: str, way: str) -> Network:
    torch.manual_seed(0)
    network = Network(lambda net, x: WAYS[way](net, x) if ELSEWHERE[where](net, x) else x)
    return network.double().eval()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_cut_is_right_where_the_code_goes_another_way(where: str, way: str) -> None:
    network = built(where, way)
    example = (torch.randn(1, 3, 32, 32, dtype=torch.float64),)
    coupling = analyse(network, example)
    plan = make_plan(coupling, {group.name: range(group.width - 1) for group in coupling.free})
    verify(network, plan, coupling, example)
    cut, dense = pruned(network, plan), masked(network, plan)
    training, images, px = PLACES[where]
    x = torch.randn(images, 3, px, px, dtype=torch.float64)
    with torch.no_grad():
        wanted, got = dense.train(training)(x), cut.train(training)(x)
    assert float((got - wanted).abs().max() / wanted.abs().max()) < TOLERANCE
    assert bool(coupling.free) == (way == "fits")


@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_plan_is_refused_that_is_wrong_there_alone(where: str) -> None:
    network = built(where, "centred")
    example = (torch.randn(1, 3, 32, 32, dtype=torch.float64),)
    coupling = analyse(Network(lambda _, x: x).double(), example)
    plan = make_plan(coupling, {"a": range(6)})
    assert check_exact(network, plan, example) < TOLERANCE
    with pytest.raises(PruneError, match="not proved equal"):
        verify(network, plan, coupling, example)


def test_numbers_drawn_in_training_are_no_fault() -> None:
    network = Network(lambda net, x: F.dropout(F.rrelu(x, training=net.training), training=net.training)).eval()
    example = (torch.randn(1, 3, 32, 32),)
    coupling = analyse(network, example)
    plan = make_plan(coupling, {group.name: range(5) for group in coupling.free})
    assert plan.slices
    assert verify(network, plan, coupling, example) < 1e-5


def test_layers_that_the_code_wants_equally_wide_are_frozen() -> None:
    """Two widths that need not be equal for the graph, and that a cut by equal shares leaves equal."""

    def middle(net: Network, x: Tensor) -> Tensor:
        tokens = net.b(x).flatten(2).mean(2, keepdim=True).expand(-1, -1, x.shape[2] * x.shape[3])
        return tokens.reshape(x.shape)

    network = Network(middle).eval()
    example = (torch.randn(1, 3, 32, 32),)
    coupling = analyse(network, example)
    free = [group.name for group in coupling.free]
    for width, name in enumerate(free, start=4):
        verify(network, make_plan(coupling, {name: range(width)}), coupling, example)
    assert not {"a", "b"}.intersection(free)
