"""Compensation: exact where removed channels are combinations of kept ones, least squares where they are not."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning import analyse, pruned
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.evidence import Moments, Statistics, collect
from prunekit.pruning.surgery import compensate_, make_plan, reestimate_norms_
from prunekit.pruning.surgery.compensation import regression

RIDGE = 1e-9


class Spread(nn.Module):
    """Six channels of rank three, read by a convolution, a transposed one and a linear layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.make = nn.Conv2d(3, 6, 1, bias=False)
        self.plain = nn.Conv2d(6, 4, 3, bias=False)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.flat = nn.Linear(6, 4)
        self.out = nn.Conv2d(12, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.make(images)
        size = (7, 7)
        up = nn.functional.interpolate(self.up(x), size)
        flat = nn.functional.interpolate(self.flat(x.movedim(1, -1)).movedim(-1, 1), size)
        plain = nn.functional.interpolate(self.plain(x), size)
        return self.out(torch.cat([plain, up, flat], dim=1))


def batches(count: int = 3, size: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64) for _ in range(count)]


def measured(network: nn.Module) -> tuple[Coupling, Statistics]:
    coupling = analyse(network, (batches()[0],))
    return coupling, collect(network, coupling, batches())


def cut(network: nn.Module, coupling: Coupling, keep: dict[str, list[int]], statistics: Statistics) -> nn.Module:
    changed = copy.deepcopy(network)
    compensate_(changed, coupling, keep, statistics, RIDGE)
    return pruned(changed, make_plan(coupling, keep))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), kept=st.permutations(range(6)))
def test_channels_of_a_space_are_replaced_exactly_by_any_that_span_it(seed: int, kept: list[int]) -> None:
    network = Spread(seed).double().eval()
    coupling, statistics = measured(network)
    keep = {"make": sorted(kept[:3])}
    basis = network.make.weight[keep["make"]].flatten(1)
    if torch.linalg.cond(basis) > 50:
        return
    narrow = cut(network, coupling, keep, statistics)
    unseen = batches(4)[-1]
    torch.testing.assert_close(narrow(unseen), network(unseen), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(pruned(network, make_plan(coupling, keep))(unseen), network(unseen), atol=1e-2)


def test_a_constant_channel_becomes_a_bias() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3)).double().eval()
    with torch.no_grad():
        network[0].weight[2], network[0].bias[2] = 0, 1.5
    coupling, statistics = measured(network)
    narrow = cut(network, coupling, {"0": [0, 1, 3]}, statistics)
    torch.testing.assert_close(narrow(batches()[0]), network(batches()[0]), atol=1e-6, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), kept=st.integers(1, 4))
def test_the_regression_is_that_of_least_squares(seed: int, kept: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_NU = (
        torch.randn(60, 5, generator=generator, dtype=torch.float64) @ torch.randn(5, 5, generator=generator).double()
    )
    x_NU = x_NU + torch.randn(5, generator=generator).double()
    kept_K = torch.arange(kept)
    removed, weights_RK, intercept_R = regression(_moments(x_NU), kept_K, 1e-12, centred=True)
    design = torch.cat([x_NU[:, :kept], torch.ones(60, 1, dtype=torch.float64)], dim=1)
    want = torch.linalg.lstsq(design, x_NU[:, kept:]).solution.T
    assert removed.tolist() == list(range(kept, 5))
    torch.testing.assert_close(torch.cat([weights_RK, intercept_R[:, None]], dim=1), want, atol=1e-5, rtol=1e-5)


def _moments(x_NU: Tensor) -> Moments:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)).double()
    _, statistics = measured(network)
    (seen,) = statistics.seen("0")
    return Moments(
        group=seen.group,
        slot=seen.slot,
        layer=seen.layer,
        at="input",
        index_MU=torch.arange(x_NU.shape[1])[None],
        places=len(x_NU),
        sum_U=x_NU.sum(dim=0),
        moment_UU=x_NU.T @ x_NU,
    )


class Repeated(nn.Module):
    """Six channels of rank three, read in several places at once."""

    def __init__(self, kind: str, seed: int, *, bias: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kind, self.make = kind, nn.Conv2d(3, 6, 1, bias=bias)
        self.grouped = nn.Conv2d(12, 8, 3, groups=2, bias=bias)
        self.flat = nn.Linear(6 * 16, 8, bias=bias)
        self.left, self.right = (nn.Conv2d(6, 8, 1, bias=bias) for _ in range(2))
        self.right.weight = self.left.weight
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.make(images)
        if self.kind == "grouped":
            return self.out(self.grouped(torch.cat([x, x.flip(3)], dim=1)))
        if self.kind == "flat":
            return self.out(self.flat(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))[:, :, None, None])
        return self.out(self.left(x) * self.right(x.flip(3)))


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["grouped", "flat", "tied"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
    kept=st.permutations(range(6)),
)
def test_readers_of_several_places_are_compensated_exactly_too(
    kind: str, bias: bool, seed: int, kept: list[int]
) -> None:
    network = Repeated(kind, seed, bias=bias).double().eval()
    coupling, statistics = measured(network)
    keep = {"make": sorted(kept[:3])}
    if torch.linalg.cond(network.make.weight[keep["make"]].flatten(1)) > 50:
        return
    changed = copy.deepcopy(network)
    readers = {"tied": ("left", "right")}.get(kind, (kind,))
    assert compensate_(changed, coupling, keep, statistics, RIDGE) == readers
    unseen, plan = batches(4)[-1], make_plan(coupling, keep)
    torch.testing.assert_close(pruned(changed, plan)(unseen), network(unseen), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(pruned(network, plan)(unseen), network(unseen), atol=1e-2)


class Groups(nn.Module):
    """Four groups of two channels, the last like the first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4)
        self.read, self.out = nn.Conv2d(8, 4, 1, bias=False), nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            for layer in (self.make, self.grouped):
                layer.weight[6:], layer.bias[6:] = layer.weight[:2], layer.bias[:2]

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.grouped(self.make(images)))
        return self.out(self.read(x))


def test_whole_groups_stand_in_for_each_other() -> None:
    network = Groups().double().eval()
    coupling, statistics = measured(network)
    keep = {"make": [0, 1, 2]}
    changed = copy.deepcopy(network)
    assert compensate_(changed, coupling, keep, statistics, RIDGE) == ("read",)
    unseen, plan = batches(4)[-1], make_plan(coupling, keep)
    torch.testing.assert_close(pruned(changed, plan)(unseen), network(unseen), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(pruned(network, plan)(unseen), network(unseen), atol=1e-2)


class Elsewhere(nn.Module):
    """A weight that a layer of this group shares with one that is not called as a module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.read, self.silent = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1)
        self.silent.weight = self.read.weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.make(images)
        return self.read(x) + nn.functional.conv2d(x.square(), self.silent.weight, self.silent.bias)


def test_a_shared_weight_is_left_alone_where_not_all_its_layers_were_measured() -> None:
    network = Elsewhere().double().eval()
    coupling, statistics = measured(network)
    before = copy.deepcopy(network.state_dict())
    assert compensate_(network, coupling, {"make": [0, 1, 2]}, statistics) == ()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_every_structure_comes_nearer_to_the_dense_network(
    block_names: list[str], random_network: Callable[[Sequence[str], int], nn.Module]
) -> None:
    """One unit of each group goes; on the images that were measured a regression in the wrong place would do harm."""
    worse: list[str] = []
    images = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    for name in block_names:
        network = random_network([name], 0)
        coupling = analyse(network, (images[:1],))
        rng = np.random.default_rng(0)
        keep = {
            group.name: sorted(rng.permutation(group.width)[: max(1, group.width - 1)].tolist())
            for group in coupling.free
        }
        plan, changed = make_plan(coupling, keep), copy.deepcopy(network)
        compensate_(changed, coupling, keep, collect(network, coupling, [images]))
        with torch.no_grad():
            wanted = network(images)
            bare, better = ((pruned(one, plan)(images) - wanted).norm() for one in (network, changed))
        if not better < bare:
            worse.append(f"{name}: {float(bare):.3f} -> {float(better):.3f}")
    assert not worse


def test_a_bias_that_another_layer_uses_too_is_left_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 1)).double().eval()
    network[3].bias = network[2].bias
    coupling, statistics = measured(network)
    before = network[2].bias.detach().clone()
    assert compensate_(network, coupling, {"0": [0, 1, 2]}, statistics) == ("2",)
    assert torch.equal(network[2].bias, before)


class Aliased(nn.Module):
    """Uses a weight or a bias of its reader once more, under another name."""

    def __init__(self, of: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.make, self.read = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.of, self.alias = of, getattr(self.read, of)

    def forward(self, images: Tensor) -> Tensor:
        x = self.make(images)
        more = nn.functional.conv2d(x.square(), self.alias) if self.of == "weight" else self.alias[:, None, None]
        return self.read(x) + more


@pytest.mark.parametrize(("of", "changed"), [("weight", ()), ("bias", ("read",))])
def test_what_is_used_under_another_name_too_is_left_alone(of: str, changed: tuple[str, ...]) -> None:
    network = Aliased(of).double().eval()
    coupling, statistics = measured(network)
    before = network.alias.detach().clone()
    assert compensate_(network, coupling, {"make": [0, 1, 2]}, statistics) == changed
    assert torch.equal(network.alias, before)


def test_nothing_removed_changes_nothing() -> None:
    network = Spread(0).double().eval()
    coupling, statistics = measured(network)
    assert compensate_(network, coupling, {"make": list(range(6))}, statistics) == ()


def test_statistics_of_another_network_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).double().eval()
    coupling, statistics = measured(network)
    narrow = pruned(network, make_plan(coupling, {"0": [0, 1, 2]}))
    with pytest.raises(PruneError, match="other channels"):
        compensate_(narrow, coupling, {"0": [0, 1]}, statistics)


def test_norms_get_the_mean_and_variance_of_the_data() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1)).double()
    network.train()
    network[1].eval()
    momentum = network[1].momentum
    images = batches(5)
    assert reestimate_norms_(network, images) == 1
    maps = [network[0](batch).movedim(1, 0).flatten(1) for batch in images]
    torch.testing.assert_close(network[1].running_mean, torch.stack([one.mean(dim=1) for one in maps]).mean(dim=0))
    torch.testing.assert_close(network[1].running_var, torch.stack([one.var(dim=1) for one in maps]).mean(dim=0))
    assert network[1].momentum == momentum
    assert [module.training for module in network] == [True, False, True, True]


@pytest.mark.parametrize("kernel", [2, 4])
@pytest.mark.parametrize("channels", [8, 5])
def test_constants_go_through_a_strided_transposed_layer_as_often_as_they_are_met(kernel: int, channels: int) -> None:
    """Channels that are always 1 are replaced by a bias, exactly but for the border."""
    torch.manual_seed(0)
    make, up = nn.Conv2d(3, channels, 1), nn.ConvTranspose2d(channels, 4, kernel, stride=2, bias=True)
    with torch.no_grad():
        make.weight[3:], make.bias[3:] = 0.0, 1.0
        # Every output place meets the same sum, so that one bias can stand for it.
        up.weight.copy_(up.weight[:, :, :1, :1].expand_as(up.weight))
    network = nn.Sequential(make, nn.ReLU(), up, nn.Conv2d(4, 2, 1)).double().eval()
    coupling, statistics = measured(network)
    smaller = cut(network, coupling, {"0": [0, 1, 2]}, statistics)
    images = batches(1)[0]
    inner = slice(kernel, -kernel)
    with torch.no_grad():
        got, want = smaller(images)[:, :, inner, inner], network(images)[:, :, inner, inner]
    assert (got - want).abs().mean() < 1e-6 * want.abs().mean()


def test_a_batch_of_one_image_does_not_end_the_estimate() -> None:
    """Batch norms behind global pooling have no variance to see in a single image."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)).double().eval()
    images = batches(1)[0]
    assert reestimate_norms_(network, [images, images[:1]]) == 1
    assert network[2].running_mean.isfinite().all()
