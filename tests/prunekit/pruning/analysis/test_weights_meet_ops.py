"""Weights that are computed, wrapped blocks and numbers of the code, all in one network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop
from torch.nn import functional as F

from prunekit.pruning import analyse
from prunekit.pruning.surgery import check_exact, make_plan


class Net(nn.Module):
    """Three convolutions, of which `run` uses the second as it likes, and two learnt vectors."""

    def __init__(self, run: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.run = run
        self.a, self.b, self.out = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.g, self.h = nn.Parameter(torch.rand(16) + 0.5), nn.Parameter(torch.rand(16))

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self, self.a(images))


def convolved(net: Net, x: Tensor, weight: Tensor) -> Tensor:
    return net.out(F.conv2d(x, weight, net.b.bias))


def in_place(x: Tensor, change: Callable[[Tensor], object]) -> Tensor:
    copy = x.clone()
    change(copy)
    return copy


def squared(x: Tensor, weight: Tensor) -> Tensor:
    """Sum over channels, what no layer reads."""
    return (x.flatten(2).transpose(1, 2) @ weight).mean()


def mask(net: Net, x: Tensor) -> Tensor:
    return convolved(net, x, net.b.weight * torch.tensor([1.0, 1.0, 0.0]))


def squeezed(net: Net, x: Tensor) -> Tensor:
    copy = x.mean((2, 3), keepdim=True)
    copy.detach().squeeze_(3)
    return net.out(x * copy)


def without_gradients(net: Net, x: Tensor) -> Tensor:
    places = torch.arange(6)
    with torch.no_grad():
        y = net.b(x) * places
    return net.out(y)


FREE: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "a mask over the places of a kernel": mask,
    "written in place as a whole": lambda net, x: convolved(net, x, in_place(net.b.weight, lambda w: w.mul_(2.0))),
    "max of two weights": lambda net, x: convolved(net, x, torch.max(net.b.weight, net.b.weight * 0.1)),
    "squeezed in place": squeezed,
    "places in a block": without_gradients,
    "a sum where the vector is zero": lambda net, x: net.out(x) + squared(x.sigmoid(), net.g.tanh()),
    "weights by name": lambda net, x: net.out(
        torch.ops.aten.conv2d.default(input=x, weight=net.b.weight * 2, padding=[1, 1])
    ),
    "a computed norm": lambda net, x: net.out(F.batch_norm(x, None, None, net.g * 2, net.h * 1.5, True)),
}


def one_by_one(net: Net, x: Tensor) -> Tensor:
    numbers = torch.arange(x.shape[1])
    with torch.no_grad():
        factors = numbers[:, None, None] * 2
    return net.out(x * factors)


def seen_by_a_block(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = x.sigmoid()
    return net.out(x) + squared(y, net.g.sigmoid())


def either_way(net: Net, x: Tensor) -> Tensor:
    y = torch.cond(net.h.sum() > 0, lambda y: y.sigmoid(), lambda y: y.tanh(), (x,))
    return net.out(x) + squared(y, net.g.sigmoid())


def rows(weight: Tensor, factor: Tensor) -> Tensor:
    return in_place(weight, lambda w: w.transpose(0, 1).mul_(factor[:, None, None, None]))


FROZEN: dict[str, tuple[Callable[[Net, Tensor], Tensor], str]] = {
    "a row written in place": (
        lambda net, x: convolved(net, x, in_place(net.b.weight, lambda w: w[0].mul_(3.0))),
        "computed by select|written in place",
    ),
    "written through a view by a weight": (lambda net, x: convolved(net, x, rows(net.b.weight, net.h)), "in place"),
    "written through a view by features": (
        lambda net, x: convolved(net, x, rows(net.b.weight, x.mean((0, 2, 3)))),
        "written in place",
    ),
    "a mask over channels": (
        lambda net, x: convolved(net, x, net.b.weight * (torch.arange(16) % 2)[:, None, None, None]),
        "computed by mul",
    ),
    "a variance of all": (
        lambda net, x: convolved(net, x, net.b.weight / torch.var(net.b.weight, False)),
        "standardised",
    ),
    "a sum where nothing is zero": (lambda net, x: net.out(x) + squared(x.sigmoid(), net.g.sigmoid()), "not be zero"),
    "a sum behind a map over places": (
        lambda net, x: net.out(x) + squared(x.sigmoid() * torch.arange(6), net.g.sigmoid()),
        "not be zero",
    ),
    "a quotient of weights": (lambda net, x: net.out(x * (net.g / net.g.sqrt())[:, None, None]), "not be finite"),
    "numbers by position in a block": (one_by_one, "makes by position"),
    "a sum behind a block": (seen_by_a_block, "not be zero"),
    "a sum behind a condition": (either_way, "not be zero"),
    "a loop": (
        lambda net, x: net.out(
            while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y.flip(1) * 1.1), (torch.tensor(0), x))[1]
        ),
        "while_loop",
    ),
}


@pytest.mark.parametrize("name", FREE)
def test_what_is_free_is_exact(name: str) -> None:
    assert _frozen(FREE[name]) is None


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_says_why(name: str) -> None:
    run, reason = FROZEN[name]
    found = _frozen(run)
    assert found is not None
    assert any(part in found for part in reason.split("|")), found


def _frozen(run: Callable[[Net, Tensor], Tensor]) -> str | None:
    """Return why the first layer's channels are frozen; check that what is free is exact."""
    net, images = Net(run).eval(), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    coupling = analyse(net, (images,))
    generator = torch.Generator().manual_seed(2)
    keep = {
        g.name: sorted(torch.randperm(g.width, generator=generator)[: g.width // 2].tolist()) for g in coupling.free
    }
    check_exact(net, make_plan(coupling, keep), (images,))
    return next(group.frozen for group in coupling.groups if "a" in group.layers("out"))
