"""What single ops in a network's code leave free, and why they freeze what they freeze."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit.pruning import Coupling, Plan, analyse
from prunekit.pruning.surgery import check_exact, make_plan


class Net(nn.Module):
    """Two convolutions, something between them and a reader."""

    def __init__(self, middle: Callable[[Tensor, Tensor], Tensor], width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.middle = middle
        self.a, self.b, self.out = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3), nn.Conv2d(width, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.middle(self.a(images), self.b(images)))


def in_place(x: Tensor, change: Callable[[Tensor], object]) -> Tensor:
    copy = x.clone()
    change(copy)
    return copy


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q.flatten(2).transpose(1, 2) @ k.flatten(2)


FREE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int, int]] = {  # what is run, its width, units of a
    "masked_fill": (lambda a, b: a.masked_fill(b < 0, 0.0), 16, 16),
    "masked_fill in place": (lambda a, b: in_place(a, lambda x: x.masked_fill_(b < 0, 0.0)), 16, 16),
    "max of two": (torch.max, 16, 16),
    "min of two": (torch.min, 16, 16),
    "norm over space": (lambda a, b: a * torch.norm(b, p=2, dim=(2, 3), keepdim=True), 16, 16),
    "std over space": (lambda a, b: a * b.std((2, 3), correction=0, keepdim=True), 16, 16),
    "halves that swap": (lambda a, _: torch.cat([a[:, a.shape[1] // 2 :], a[:, : a.shape[1] // 2]], 1), 16, 8),
    "both halves": (lambda a, b: a[:, : a.shape[1] // 2] * a[:, a.shape[1] // 2 :] * b.mean(), 8, 8),
    "tensor_split": (lambda a, _: torch.cat(torch.tensor_split(a, 2, dim=1)[::-1], 1), 16, 8),
    "glu": (lambda a, _: F.glu(a, 1), 8, 8),
    "channel shuffle": (lambda a, _: F.channel_shuffle(a, 4), 16, 4),
    "zeros_like": (lambda a, _: torch.maximum(a, torch.zeros_like(a)), 16, 16),
    "zeros_like of twice as many": (lambda a, b: torch.cat([a, torch.zeros_like(a)], 1) + torch.cat([b, b], 1), 32, 16),
    "new_zeros": (lambda a, _: torch.cat([a, a.new_zeros(1, 3, *a.shape[2:])], 1), 19, 16),
    "padding to another's width": (
        lambda a, b: torch.cat([a, b], 1) + F.pad(a, (0, 0, 0, 0, 0, b.shape[1])),
        32,
        16,
    ),
    "topk over space": (lambda a, _: a * a.flatten(2).topk(4, -1)[0].mean(-1)[..., None, None], 16, 16),
    "dropout that is off": (lambda a, _: F.feature_alpha_dropout(a, 0.5, False), 16, 16),
    "a map over places": (lambda a, _: a * torch.arange(a.shape[3]).expand_as(a), 16, 16),
    "pooling of volumes": (lambda a, b: F.avg_pool3d(torch.stack([a, b], 2), (2, 1, 1)).squeeze(2), 16, 16),
    "gather over space": (lambda a, b: a.flatten(2).gather(2, b.flatten(2).argsort(2)).view_as(a), 16, 16),
}


def analysed(middle: Callable[[Tensor, Tensor], Tensor], width: int) -> tuple[nn.Module, Coupling, Tensor]:
    net = Net(middle, width).eval()
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return net, analyse(net, (images,)), images


def random_half(coupling: Coupling) -> Plan:
    generator = torch.Generator().manual_seed(2)
    groups = [group for group in coupling.free if group.width > 1]
    return make_plan(
        coupling,
        {g.name: sorted(torch.randperm(g.width, generator=generator)[: g.width // 2].tolist()) for g in groups},
    )


@pytest.mark.parametrize("name", FREE)
def test_what_is_free_is_exact(name: str) -> None:
    middle, width, units = FREE[name]
    net, coupling, images = analysed(middle, width)
    assert sum(group.width for group in coupling.free if "a" in group.layers("out")) == units
    check_exact(net, random_half(coupling), (images,))


FROZEN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int, str]] = {
    "pooled channels": (
        lambda a, _: F.avg_pool3d(a.unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)).squeeze(1),
        16,
        "pooled together with other channels",
    ),
    "resized channels": (
        lambda a, _: F.interpolate(a.unsqueeze(1), (16, 6, 6), mode="trilinear").squeeze(1),
        16,
        "pooled together with other channels",
    ),
    "norm over channels": (lambda a, _: F.normalize(a, dim=1), 16, "reduced together"),
    "variance of all": (lambda a, _: a / torch.var(a, unbiased=False), 16, "reduced together"),
    "counted channels": (lambda a, _: a * torch.arange(a.shape[1])[:, None, None], 16, "makes by position"),
    "numbers one a channel": (lambda a, _: a * torch.rand(a.shape[1], 1, 1), 16, "random numbers"),
    "noise": (lambda a, _: a + torch.randn_like(a), 16, "random numbers"),
    "dropout that is on": (lambda a, _: F.dropout(a, 0.5, True), 16, "random numbers"),
    "a sum of what is never zero": (
        lambda a, b: b * scores(a.sigmoid(), b.sigmoid()).mean((1, 2))[:, None, None, None],
        16,
        "would not be zero",
    ),
    "a quotient of zeros": (lambda a, b: b + a / a.sum((2, 3), keepdim=True), 16, "would not be finite"),
    "reflected channels": (
        lambda a, _: F.pad(a.unsqueeze(1), (0, 0, 0, 0, 1, 1), mode="reflect").squeeze(1)[:, 1:-1],
        16,
        "padded or cropped along its channels|pooled together",
    ),
    "a scale of their number": (
        lambda a, b: b + a * a.shape[1] ** -0.5,
        16,
        "number is used as a value|follows its size",
    ),
    "scores by their number": (
        lambda a, b: b * (scores(a, b) / a.shape[1]).mean((1, 2))[:, None, None, None],
        16,
        "number is used as a value|follows its size",
    ),
    "groups of a written width": (
        lambda a, _: a.unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2),
        16,
        "by a size written",
    ),
    "parts of a written width": (lambda a, _: torch.cat(a.split(8, 1)[::-1], 1), 16, "by a size written"),
    "halves at a written place": (lambda a, _: torch.cat([a[:, 8:], a[:, :8]], 1), 16, "by a size written"),
    "written channels": (lambda a, b: in_place(a, lambda x: x[:, 1:9].copy_(b[:, :8])), 16, "by a position"),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_says_why(name: str) -> None:
    middle, width, reason = FROZEN[name]
    net, coupling, images = analysed(middle, width)
    found = next(group.frozen for group in coupling.groups if "a" in group.layers("out"))
    assert found is not None
    assert any(part in found for part in reason.split("|")), found
    if reason != "random numbers":
        check_exact(net, random_half(coupling), (images,))
