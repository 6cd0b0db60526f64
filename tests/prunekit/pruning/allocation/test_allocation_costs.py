"""The analytic costs are the ones that the coupling counts label by label, and that the cut network has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import Coupling, analyse, pruned
from prunekit.pruning.allocation import LatencyCost, MacsCost, ParamsCost, padding_waste
from prunekit.pruning.surgery import make_plan

Build = Callable[[Sequence[str], int], nn.Module]
SETS = (
    ("Grouped", "Concat", "Split"),
    ("Depthwise", "GroupedTransposed", "Transposed"),
    ("PixelShuffled", "SelectiveKernel", "Slopes"),
    ("EinsumAttention", "GroupNormed", "Gate"),
)


@cache
def subject(build: Build, blocks: tuple[str, ...]) -> tuple[nn.Module, Coupling]:
    network = build(blocks, 0)
    return network, analyse(network, (torch.randn(1, 3, 16, 16),))


def drawn(coupling: Coupling, seed: int) -> tuple[dict[str, np.ndarray], dict[str, int], dict[str, list[int]]]:
    """Draw an order and a width for each group; return what that keeps as well."""
    rng = np.random.default_rng(seed)
    orders = {group.name: rng.permutation(group.width) for group in coupling.free}
    widths = {group.name: int(rng.integers(1, group.width + 1)) for group in coupling.free}
    keep = {name: sorted(orders[name][len(orders[name]) - width :].tolist()) for name, width in widths.items()}
    return orders, widths, keep


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SETS), st.integers(0, 2**31))
def test_macs_and_parameters_are_those_that_the_coupling_counts(
    random_network: Build, blocks: tuple[str, ...], seed: int
) -> None:
    _, coupling = subject(random_network, blocks)
    orders, widths, keep = drawn(coupling, seed)
    assert MacsCost(coupling, orders).total(widths) == coupling.macs(keep)
    assert ParamsCost(coupling, orders).total(widths) == coupling.params(keep)


def test_many_allocations_at_once_cost_what_each_costs_alone(random_network: Build) -> None:
    _, coupling = subject(random_network, SETS[0])
    orders, _, _ = drawn(coupling, 0)
    rows = [drawn(coupling, seed)[1] for seed in range(20)]
    for cost in (MacsCost(coupling, orders), ParamsCost(coupling, orders)):
        together = cost.totals(np.array([[row[name] for name in cost.names] for row in rows]))
        assert together.tolist() == [cost.total(row) for row in rows]


@dataclass(frozen=True)
class Widths:
    channels_in_I: tuple[int, ...]
    channels_out_O: tuple[int, ...]


class FakeTable:
    """Every layer costs the product of its channels and a number of its own."""

    rest_ms = 0.25

    def __init__(self, network: nn.Module) -> None:
        kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        self.modules = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}

    @property
    def layers(self) -> Mapping[str, Widths]:
        pairs = {name: channels(module) for name, module in self.modules.items()}
        return {name: Widths((1, wide), (1, out)) for name, (wide, out) in pairs.items()}

    def layer_ms_N(self, layer: str, channels_in_N: np.ndarray, channels_out_N: np.ndarray) -> np.ndarray:
        return (1 + list(self.modules).index(layer)) * channels_in_N * (channels_out_N + 0.5)


def channels(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    return module.in_channels, module.out_channels


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SETS), st.integers(0, 2**31))
def test_latency_is_looked_up_at_the_widths_that_the_cut_network_has(
    random_network: Build, blocks: tuple[str, ...], seed: int
) -> None:
    network, coupling = subject(random_network, blocks)
    orders, widths, keep = drawn(coupling, seed)
    cut = dict(pruned(network, make_plan(coupling, keep)).named_modules())
    table = FakeTable(network)
    by_hand = sum(table.layer_ms_N(name, *map(np.asarray, channels(cut[name]))) for name in table.layers)
    assert LatencyCost(coupling, orders, table).total(widths) == pytest.approx(by_hand + table.rest_ms)


def test_inputs_shared_by_the_groups_of_a_convolution_are_counted_for_each_group() -> None:
    class PerClass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.project = nn.Conv2d(3, 8, 1), nn.Conv2d(24, 12, 1, groups=3)
            self.classifier = nn.Conv2d(12, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.project(self.a(x).repeat(1, 3, 1, 1)))

    network = PerClass().eval()
    coupling = analyse(network, (torch.randn(1, 3, 4, 4),))
    orders, widths, keep = drawn(coupling, 1)
    cut, table = dict(pruned(network, make_plan(coupling, keep)).named_modules()), FakeTable(network)
    assert channels(cut["project"])[0] < 24
    by_hand = sum(table.layer_ms_N(name, *map(np.asarray, channels(cut[name]))) for name in table.layers)
    assert LatencyCost(coupling, orders, table).total(widths) == pytest.approx(by_hand + table.rest_ms)


def test_a_latency_table_of_another_network_is_refused(random_network: Build) -> None:
    _, coupling = subject(random_network, SETS[0])
    with pytest.raises(PruneError, match="measured for another network"):
        LatencyCost(coupling, drawn(coupling, 0)[0], FakeTable(nn.Sequential(nn.Conv2d(3, 4, 1))))


@pytest.mark.parametrize(("widths", "message"), [({"nowhere": 1}, "is called nowhere"), ({"stem.conv": 99}, "keep 99")])
def test_widths_that_do_not_fit_are_refused(random_network: Build, widths: dict[str, int], message: str) -> None:
    _, coupling = subject(random_network, SETS[0])
    with pytest.raises(PruneError, match=message):
        MacsCost(coupling, drawn(coupling, 0)[0]).total(widths)


def test_padding_is_what_rounding_up_every_width_adds() -> None:
    network = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 16, 1), nn.Conv2d(16, 8, 1)).eval()
    coupling = analyse(network, (torch.randn(1, 16, 4, 4),))
    assert padding_waste(coupling, None, 8).macs == coupling.macs()
    assert padding_waste(coupling, None, 8).wasted == 0
    keep = {"0": list(range(17)), "1": list(range(9))}
    waste = padding_waste(coupling, keep, 8)
    places = 16
    assert waste.layers == {
        "0": places * 9 * 16 * (24 - 17),
        "1": places * (24 * 16 - 17 * 9),
        "2": places * 8 * (16 - 9),
    }
    assert waste.wasted == sum(waste.layers.values())
    assert waste.share == pytest.approx(waste.wasted / (coupling.macs(keep) + waste.wasted))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SETS), st.integers(0, 2**31))
def test_coarser_kernels_never_waste_less(random_network: Build, blocks: tuple[str, ...], seed: int) -> None:
    _, coupling = subject(random_network, blocks)
    _, _, keep = drawn(coupling, seed)
    wasted = [padding_waste(coupling, keep, align).wasted for align in (1, 2, 4, 8)]
    assert wasted[0] == 0
    assert wasted == sorted(wasted)
