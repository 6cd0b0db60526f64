from collections.abc import Callable
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from prunekit.pruning import Coupling, analyse, masked, pruned
from prunekit.pruning.criteria.sirfp_paper import GaussianRelu, MeasuredMeans, ReluBeta, fold_means_
from prunekit.pruning.criteria.sirfp_paper.folding import Means, aligned
from prunekit.pruning.evidence import collect
from prunekit.pruning.surgery import check_exact, make_plan

IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """Consumers of every kind: with a bias, before a batch norm, transposed, linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.a_bn = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.b, self.b_bn = nn.Conv2d(6, 7, 3, bias=False), nn.BatchNorm2d(7)
        self.c, self.c_bn = nn.ConvTranspose2d(7, 5, 2, stride=2), nn.BatchNorm2d(5)
        self.d, self.d_bn = nn.Conv2d(5, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a_bn(self.a(x)).relu()
        x = self.b_bn(self.b(x)).relu()
        x = self.c_bn(self.c(x)).relu()
        return self.head(self.d_bn(self.d(x)).relu().permute(0, 2, 3, 1))


class Stream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.a_bn = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.b, self.b_bn = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a_bn(self.a(x)).relu()
        return self.head((x + self.b_bn(self.b(x))).relu())


def constant_norms(network: nn.Module, positive: bool = False) -> nn.Module:
    """With scales of zero every channel is its shift everywhere: what is folded is then the whole truth."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
            nn.init.uniform_(module.bias, 0.1 if positive else -1.0, 1.0)
            nn.init.normal_(module.running_mean)
    return network.eval()


def half(coupling: Coupling, seed: int = 0) -> dict[str, list[int]]:
    generator = np.random.default_rng(seed)
    return {g.name: sorted(generator.permutation(g.width)[: (g.width + 1) // 2].tolist()) for g in coupling.free}


def folded(network: nn.Module, coupling: Coupling, means: Means, keep: dict[str, list[int]]) -> Tensor:
    report = fold_means_(network, coupling, keep, means, partial(network, IMAGES))
    assert not report.skipped
    with torch.no_grad():
        return pruned(network, make_plan(coupling, keep))(IMAGES)


@pytest.mark.parametrize("kind", ["relu", "gaussian", "measured"])
@pytest.mark.parametrize("group", ["a", "d"])
@pytest.mark.parametrize("seed", range(3))
def test_where_channels_are_constant_nothing_is_lost(group: str, kind: str, seed: int) -> None:
    """Group a is folded into a running mean, group d into a bias."""
    network, coupling = constant_at(group)
    keep = {group: half(coupling, seed)[group]}
    with torch.no_grad():
        expected = network(IMAGES)
        bare = pruned(network, make_plan(coupling, keep))(IMAGES)
    means = _means(kind, network, coupling)
    torch.testing.assert_close(folded(network, coupling, means, keep), expected, atol=1e-5, rtol=1e-5)
    assert float((bare - expected).abs().max()) > 1e-2, "the cut alone is felt"


def constant_at(group: str) -> tuple[nn.Module, Coupling]:
    """Return a chain whose one group is constant, and what comes after it is not."""
    network = constant_norms(Chain(), positive=True)
    for name in "abcd":
        if name != group:
            nn.init.ones_(network.get_submodule(f"{name}_bn").weight)
    return network, analyse(network, (IMAGES,))


def _means(kind: str, network: nn.Module, coupling: Coupling) -> Means:
    if kind == "measured":
        return MeasuredMeans(collect(network, coupling, [IMAGES]))
    return {"relu": ReluBeta, "gaussian": GaussianRelu}[kind](network, coupling)


@pytest.mark.parametrize("seed", range(3))
def test_a_transposed_convolution_takes_the_mean_of_its_kernel_per_place(seed: int) -> None:
    network, coupling = constant_at("b")
    with torch.no_grad():  # one value wherever the kernel's four places write
        network.c.weight.copy_(network.c.weight.mean(dim=(2, 3), keepdim=True).expand_as(network.c.weight))
        expected = network(IMAGES)
    keep = {"b": half(coupling, seed)["b"]}
    with torch.no_grad():
        bare = pruned(network, make_plan(coupling, keep))(IMAGES)
    result = folded(network, coupling, ReluBeta(network, coupling), keep)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert float((bare - expected).abs().max()) > 1e-2, "the cut alone is felt"


def test_the_shifts_of_a_residual_stream_add_up() -> None:
    network = constant_norms(Stream(), positive=True)
    coupling = analyse(network, (IMAGES,))
    stream = next(group for group in coupling.free if "head" in group.layers("in"))
    slot = next(slot for slot in stream.slots if slot.parameter == "head.weight")
    both = (network.a_bn.bias + network.b_bn.bias).detach().double().numpy()
    np.testing.assert_allclose(ReluBeta(network, coupling)(stream, slot), both)
    with torch.no_grad():
        network.b_bn.bias -= 5
    np.testing.assert_allclose(ReluBeta(network, coupling)(stream, slot), 0)


def test_the_normal_expectation_is_that_of_drawn_values() -> None:
    network = Stream().eval()
    nn.init.normal_(network.a_bn.weight)
    nn.init.normal_(network.a_bn.bias)
    nn.init.zeros_(network.b_bn.weight)
    coupling = analyse(network, (IMAGES,))
    stream = next(group for group in coupling.free if "head" in group.layers("in"))
    slot = next(slot for slot in stream.slots if slot.parameter == "head.weight")
    drawn = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    expected = (network.a_bn.bias + network.a_bn.weight * drawn).relu().mean(dim=0).detach()
    np.testing.assert_allclose(GaussianRelu(network, coupling)(stream, slot), expected, atol=1e-2)
    assert (GaussianRelu(network, coupling)(stream, slot) >= ReluBeta(network, coupling)(stream, slot)).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_values_are_matched_by_label_and_occurrence(channels: list[int], positions: list[int]) -> None:
    values = np.arange(1.0, len(channels) + 1)
    got = aligned(values, np.array(channels), np.array(positions))
    for place, label in enumerate(positions):
        own = [value for value, channel in zip(values, channels, strict=True) if channel == label]
        turn = positions[:place].count(label)
        expected = 0.0 if not own else own[turn] if len(own) == positions.count(label) else sum(own) / len(own)
        assert got[place] == pytest.approx(expected)


def test_folding_never_breaks_exactness(random_network: Callable[..., nn.Module], block_names: list[str]) -> None:
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for number in range(4):
        network = random_network(block_names[number::10], number)
        coupling = analyse(network, (images,))
        keep = half(coupling, number)
        fold_means_(network, coupling, keep, ReluBeta(network, coupling), partial(network, images))
        check_exact(network, make_plan(coupling, keep), (images,))


def test_folding_brings_the_masked_network_nearer_to_the_dense_one() -> None:
    network = Chain().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.5)
            nn.init.uniform_(module.bias, 0.5, 1.5)
    _calibrate(network)
    coupling = analyse(network, (IMAGES,))
    errors: dict[str, float] = {}
    for kind in ("none", "relu", "gaussian", "measured"):
        copy = Chain().eval()
        copy.load_state_dict(network.state_dict())
        keep = half(coupling)
        if kind != "none":
            fold_means_(copy, coupling, keep, _means(kind, network, coupling), partial(copy, IMAGES))
        with torch.no_grad():
            errors[kind] = float((masked(copy, make_plan(coupling, keep))(IMAGES) - network(IMAGES)).square().mean())
    assert max(errors["relu"], errors["gaussian"], errors["measured"]) < 0.5 * errors["none"]


def _calibrate(network: nn.Module) -> None:
    """Give the batch norms the statistics of the images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(IMAGES)
    network.eval()


def test_a_consumer_without_a_place_to_fold_into_is_named() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1, bias=False)).eval()
    coupling = analyse(network, (IMAGES,))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = fold_means_(network, coupling, half(coupling), ReluBeta(network, coupling), partial(network, IMAGES))
    assert report.skipped == ("3",)
    assert report.folded == ()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
