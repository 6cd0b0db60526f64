"""What the user's code does with widths: groups, paths and numbers that follow them, blocks, learnt queries."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunekit.errors import PruneError
from prunekit.pruning import Coupling, analyse, exactness, verify
from prunekit.pruning.analysis import trial
from prunekit.pruning.surgery import make_plan

TOLERANCE = 1e-5


class Blur(nn.Module):
    def __init__(self, width: int, *, learnt: bool = False, groups: int | None = None) -> None:
        super().__init__()
        kernel = torch.rand(width, 1, 3, 3)
        if learnt:
            self.kernel = nn.Parameter(kernel)
        else:
            self.register_buffer("kernel", kernel)
        self.groups_written = groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=1, groups=self.groups_written or x.shape[1])


class Middle(nn.Module):
    """Two convolutions, something in the user's own code between them."""

    def __init__(self, middle: Callable[[Tensor], Tensor], width: int = 12) -> None:
        super().__init__()
        self.a, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 4, 1)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.middle(self.a(x)))


class Block(nn.Module):
    def __init__(self, context: Callable[[], object]) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 1), nn.Conv2d(10, 4, 1)
        self.context = context

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        with self.context():  # type: ignore[attr-defined]
            x = torch.relu(self.b(x.float())) + 1
        return self.out(x)


class Either(nn.Module):
    """A condition on values: both ways read and make the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.out = (nn.Conv2d(*io, 1) for io in ((3, 12), (12, 10), (12, 10), (10, 4)))

    def forward(self, x: Tensor) -> Tensor:
        positive, x = x.sum() > 0, self.a(x)
        return self.out(torch.cond(positive, lambda y: self.b(y).relu(), lambda y: self.c(y), (x,)))


class Queries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.queries, self.embed, self.pixels = nn.Embedding(5, 8), nn.Linear(8, 12), nn.Conv2d(3, 12, 3)
        self.places, self.mix = nn.Parameter(torch.randn(1, 6, 4, 4)), nn.Conv2d(6, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.pixels(x) + F.interpolate(self.mix(self.places), (8, 8))
        return torch.einsum("qc,bchw->bqhw", self.embed(self.queries.weight), features)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.q, self.k, self.v, self.out = heads, *(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = (f(x).view(n, t, self.heads, c // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        return x + self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))


class Attentions(nn.Module):
    def __init__(self, heads: Sequence[int]) -> None:
        super().__init__()
        self.a, self.out = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 4, 1)
        self.layers = nn.Sequential(*(Attention(8, number) for number in heads))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.out(self.layers(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape))


def blurred(**options: object) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 12, 3), Blur(12, **options), nn.Conv2d(12, 4, 1))  # type: ignore[arg-type]


def autocast() -> object:
    return torch.autocast("cpu", enabled=False)


FREE: dict[str, Callable[[], nn.Module]] = {
    "a buffer as kernel": blurred,
    "a parameter as kernel": lambda: blurred(learnt=True),
    "groups of computed number": lambda: Middle(lambda x: F.group_norm(x, x.shape[1] // 3)),
    "no_grad": lambda: Block(torch.no_grad),
    "autocast": lambda: Block(autocast),
    "a condition": Either,
    "learnt queries": Queries,
    "a number that stays": lambda: Middle(lambda x: x * 3 + x.shape[2]),
}

FROZEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "written groups of a kernel": (
        lambda: blurred(groups=12),
        "its size is written .* at analysis/test_",
    ),
    "written groups of a norm": (
        lambda: Middle(lambda x: F.group_norm(x, 4), 16),
        "number of groups is written .* at",
    ),
    "a path": (
        lambda: Middle(lambda x: x.relu() if x.shape[1] > 11 else x.sigmoid()),
        "chooses the path .* at analysis",
    ),
    "a path that ends": (lambda: Middle(lambda x: x.relu() if x.shape[1] > 11 else x), "chooses the path"),
    "a number": (lambda: Middle(lambda x: x * x.shape[1] ** -0.5), "a number .* follows its size at analysis"),
    "a whole number": (lambda: Middle(lambda x: x / x.shape[1]), "a number .* follows its size at analysis"),
}


def built(build: Callable[[], nn.Module], seed: int = 0) -> tuple[nn.Module, tuple[Tensor]]:
    torch.manual_seed(seed)
    return build().eval(), (torch.randn(2, 3, 10, 10),)


def drawn(coupling: Coupling, seed: int) -> dict[str, list[int]]:
    generator = np.random.default_rng(seed)
    groups = [group for group in coupling.free if group.width > 1]
    return {g.name: sorted(generator.permutation(g.width)[: generator.integers(1, g.width)].tolist()) for g in groups}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", FREE)
def test_what_follows_the_width_is_free_and_exact(name: str, seed: int) -> None:
    network, images = built(FREE[name], seed)
    coupling = analyse(network, images)
    assert all(group.frozen is None or "output" in group.frozen for group in coupling.groups)
    plan = make_plan(coupling, drawn(coupling, seed))
    assert plan.slices
    assert exactness(network, plan, images) <= TOLERANCE


@pytest.mark.parametrize("name", FROZEN)
def test_what_does_not_follow_the_width_is_frozen_with_its_place(name: str) -> None:
    build, reason = FROZEN[name]
    network, images = built(build)
    coupling = analyse(network, images)
    assert not coupling.free
    frozen = [group.frozen for group in coupling.groups if group.frozen and "output" not in group.frozen]
    assert frozen
    assert all(re.search(reason, found) for found in frozen), frozen


def test_a_path_that_only_a_small_width_takes_is_refused_by_verify() -> None:
    network, images = built(lambda: Middle(lambda x: x.relu() if x.shape[1] > 2 else x.sigmoid()))
    coupling = analyse(network, images)
    assert verify(network, make_plan(coupling, {"a": [1, 4, 7]}), coupling, images) <= TOLERANCE
    with pytest.raises(PruneError, match=r"chooses the path.* at analysis/test_written_code\.py"):
        verify(network, make_plan(coupling, {"a": [1, 4]}), coupling, images)


def test_the_trial_freezes_what_fails_by_itself_and_nothing_else() -> None:
    # With one head the view of all channels fits any width; q and k of it go together.
    network, _ = built(lambda: Attentions([4, 1, 4, 1]))
    coupling = analyse(network, (torch.randn(1, 3, 16, 16),))
    frozen = {layer for group in coupling.groups if group.frozen for layer in group.layers("out")}
    assert {name for name in frozen if name.startswith("layers.")} >= {"layers.0.q", "layers.0.v", "layers.2.k"}
    keep = drawn(coupling, 0)
    if keep:
        assert exactness(network, make_plan(coupling, keep), (torch.randn(1, 3, 16, 16),)) <= TOLERANCE


@pytest.mark.parametrize("layers", [4, 8])
def test_whole_networks_are_run_a_fixed_number_of_times(monkeypatch: pytest.MonkeyPatch, layers: int) -> None:
    runs: list[nn.Module] = []
    real = trial.error

    def counted(module: nn.Module, call: trial.Call) -> Exception | None:
        if isinstance(module, Attentions):
            runs.append(module)
        return real(module, call)

    monkeypatch.setattr(trial, "error", counted)
    network, _ = built(lambda: Attentions([4] * layers))
    analyse(network, (torch.randn(1, 3, 16, 16),))
    assert len(runs) <= 16


class Sliced(nn.Module):
    """Calls a slice of a Sequential, whose name in the graph is no module's."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.Conv2d(12, 12, 3, padding=1, groups=12),
            nn.Conv2d(12, 12, 1, groups=4),
            nn.GroupNorm(4, 12),
            nn.Conv2d(12, 5, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body[4:](self.body[1:4](self.body[:1](x)))


def test_groups_of_layers_in_a_slice_of_a_sequential_are_cut() -> None:
    torch.manual_seed(0)
    network, images = Sliced().eval(), (torch.randn(1, 3, 8, 8),)
    coupling = analyse(network, images)
    assert coupling.free
    keep = {group.name: range(1, group.width) for group in coupling.free}
    plan = make_plan(coupling, keep)
    assert plan.groups == {"body.1": 9, "body.2": 3, "body.3": 3}
    assert exactness(network, plan, images) < TOLERANCE
