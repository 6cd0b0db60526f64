"""What a benchmark calls proved holds: no widths of small networks, all of them tried, are faster than its bound."""

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunekit.pruning.allocation.costs import LatencyCost, MacsCost
from prunekit.pruning.allocation.grid import Grid
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency_table import LatencyTable, LayerTimes, Machine, layer_widths

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ALIGN = 2
LeastTime = Callable[[Coupling, LatencyTable, int], Callable[[float], float]]


class Street(nn.Module):
    """A residual block with a depthwise layer, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wider = nn.Conv2d(8, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.narrower = nn.Conv2d(12, 8, 1)
        self.side = nn.Conv2d(8, 4, 1)
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


def drawn_table(network: nn.Module, seed: int) -> LatencyTable:
    """Times that grow with the widths, and jump where it pleases them."""
    rng = np.random.default_rng(seed)
    layers: dict[str, LayerTimes] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            whole_in, whole_out = layer_widths(name, layer)
            axis_in, axis_out = (tuple(range(1, whole + 1)) for whole in (whole_in, whole_out))
            if layer.groups > 1:
                axis_in = (whole_in,)
            steps_IO = rng.exponential(size=(len(axis_in), len(axis_out))) * (
                rng.random((len(axis_in), len(axis_out))) < 0.3
            )
            ms_IO = steps_IO.cumsum(0).cumsum(1) + 0.01
            layers[name] = LayerTimes(axis_in, axis_out, tuple(tuple(row) for row in ms_IO.tolist()))
    return LatencyTable(Machine("cpu", "test", 1, "fp32"), (1, 3, 8, 8), layers, rest_ms=1.0)


def all_networks(coupling: Coupling, table: LatencyTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the time and the share of MACs of every choice of widths."""
    grid = Grid(coupling, ALIGN)
    orders = {group.name: np.arange(group.width) for group in coupling.free}
    widths_NG = np.array(list(itertools.product(*(grid.rungs(index) for index in range(len(grid.names))))))
    macs_N = MacsCost(coupling, orders).totals(widths_NG)
    return LatencyCost(coupling, orders, table).totals(widths_NG), macs_N / coupling.macs()


@pytest.mark.parametrize("seed", range(10))
def test_no_widths_are_faster_than_the_bound(least_time: LeastTime, seed: int) -> None:
    network = Street().eval()
    coupling = analyse(network, (torch.zeros(1, 3, 8, 8),))
    table = drawn_table(network, seed)
    bound = least_time(coupling, table, ALIGN)
    time_N, share_N = all_networks(coupling, table)
    assert len(coupling.free) == 4, "stream, hidden, side, mixed"
    for share in np.linspace(0.1, 1.0, 19):
        fastest = time_N[share_N >= share - 1e-12].min()
        assert bound(share) <= fastest + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_without_coupling_the_bound_is_reached(least_time: LeastTime, seed: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 5, 1)).eval()
    coupling = analyse(network, (torch.zeros(1, 3, 8, 8),))
    table = drawn_table(network, seed)
    bound = least_time(coupling, table, ALIGN)
    time_N, share_N = all_networks(coupling, table)
    gaps = [time_N[share_N >= share].min() - bound(share) for share in share_N]
    assert min(gaps) > -1e-9
    assert sum(gap < 1e-6 for gap in gaps) >= 2, "corners of the lower hull, the whole network among them"
