"""What a benchmark calls proved holds: no widths of small networks, all of them tried, are faster than its bound."""

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunekit.pruning.allocation import Grid, LatencyCost, MacsCost
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine, layer_widths

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ALIGN = 2
LeastTime = Callable[[Coupling, LatencyTable, int], Callable[[float], float]]


class Street(nn.Module):
    """A residual block with a depthwise layer, and a concatenation; widths that are no multiples among them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, padding=1)
        self.wider = nn.Conv2d(7, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.narrower = nn.Conv2d(12, 7, 1)
        self.side = nn.Conv2d(7, 5, 1)
        self.mixed = nn.Conv2d(12, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        stream = torch.relu(self.stem(images))
        stream = stream + self.narrower(torch.relu(self.depthwise(torch.relu(self.wider(stream)))))
        both = torch.cat([stream, torch.relu(self.side(stream))], dim=1)
        return self.head(torch.relu(self.mixed(both)))


@pytest.fixture
def least_time(monkeypatch: pytest.MonkeyPatch) -> LeastTime:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("width_bound").least_time


Times = Callable[[str, int, int], np.ndarray]
"""A layer's name and whole widths -> ms_IO at all widths from 1."""


def jumping(seed: int) -> Times:
    """Times that grow with the widths, in jumps."""
    rng = np.random.default_rng(seed)

    def times(_: str, whole_in: int, whole_out: int) -> np.ndarray:
        steps_IO = rng.exponential(size=(whole_in, whole_out)) * (rng.random((whole_in, whole_out)) < 0.3)
        return steps_IO.cumsum(0).cumsum(1) + 0.01

    return times


def unordered(seed: int) -> Times:
    """Times that have nothing to do with the widths."""
    rng = np.random.default_rng(seed)
    return lambda _, whole_in, whole_out: rng.exponential(size=(whole_in, whole_out))


def odd_is_fast(name: str, whole_in: int, whole_out: int) -> np.ndarray:
    """Nothing takes time but an even number of channels into the layer behind the concatenation."""
    slow_I = np.arange(whole_in) % 2 * (name == "mixed")
    return np.tile(slow_I[:, None].astype(float), whole_out) + 1e-6


def table_of(network: nn.Module, times: Times) -> LatencyTable:
    """Every width of every layer."""
    layers: dict[str, LayerTimes] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            whole_in, whole_out = layer_widths(name, layer)
            whole_in = 1 if layer.groups > 1 else whole_in  # depthwise: the output's width says it all
            ms_IO = tuple(tuple(row) for row in times(name, whole_in, whole_out).tolist())
            axis_in = tuple(range(1, whole_in + 1)) if layer.groups == 1 else (whole_out,)
            layers[name] = LayerTimes(axis_in, tuple(range(1, whole_out + 1)), ms_IO)
    return LatencyTable(Machine("cpu", "test", 1, "fp32"), (1, 3, 8, 8), layers, rest_ms=1.0)


def all_networks(coupling: Coupling, table: LatencyTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the time and the share of MACs of every choice of widths."""
    grid = Grid(coupling, ALIGN, floor=0.0)
    orders = {group.name: np.arange(group.width) for group in coupling.free}
    widths_NG = np.array(list(itertools.product(*(grid.rungs(index) for index in range(len(grid.names))))))
    macs_N = MacsCost(coupling, orders).totals(widths_NG)
    return LatencyCost(coupling, orders, table).totals(widths_NG), macs_N / coupling.macs()


@pytest.mark.parametrize("times", [odd_is_fast, *map(jumping, range(10)), *map(unordered, range(10))])
def test_no_widths_are_faster_than_the_bound(least_time: LeastTime, times: Times) -> None:
    network = Street().eval()
    coupling = analyse(network, (torch.zeros(1, 3, 8, 8),))
    table = table_of(network, times)
    bound = least_time(coupling, table, ALIGN)
    time_N, share_N = all_networks(coupling, table)
    assert len(coupling.free) == 4, "stream, hidden, side, mixed"
    for share in np.linspace(0.1, 1.0, 19):
        fastest = time_N[share_N >= share - 1e-12].min()
        assert bound(share) <= fastest + 1e-9


def test_layers_with_groups_of_several_channels_are_refused(least_time: LeastTime) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 5, 1)).eval()
    coupling = analyse(network, (torch.zeros(1, 3, 8, 8),))
    with pytest.raises(ValueError, match="1 has 4 groups of 8 channels"):
        least_time(coupling, table_of(network, jumping(0)), ALIGN)


@pytest.mark.parametrize("seed", range(10))
def test_without_coupling_the_bound_is_reached(least_time: LeastTime, seed: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 5, 1)).eval()
    coupling = analyse(network, (torch.zeros(1, 3, 8, 8),))
    table = table_of(network, jumping(seed))
    bound = least_time(coupling, table, ALIGN)
    time_N, share_N = all_networks(coupling, table)
    gaps = [time_N[share_N >= share].min() - bound(share) for share in share_N]
    assert min(gaps) > -1e-9
    assert sum(gap < 1e-6 for gap in gaps) >= 2, "corners of the lower hull, the whole network among them"
