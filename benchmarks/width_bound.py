"""A proof of how little time a share of the MACs can take on a machine, whatever widths are chosen.

By a latency table, and by weak duality: with a price p on MACs, min over widths of (time - p MACs) + p m is no more than the
time of any widths with m MACs or more. The minimum itself is relaxed: every layer belongs to one of the two sides of
channels it lies between, its other side is chosen for it alone. What comes out is below the true minimum, so nothing can
be faster. Shapes: I candidates for a layer's width in, O for its width out, K for the width of a side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from prunekit.pruning.allocation.costs import FloatArray
from prunekit.pruning.allocation.grid import Grid
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.ids import IntArray
from prunekit.pruning.latency_table import LatencyTable

PRICES = np.geomspace(0.2, 2.0, 60)
"""Of the MACs of the whole network, in times of the whole network; any set of prices proves something."""
Side = frozenset[str]
"""The free groups that a side of a layer reads or makes; empty where all of it is frozen."""


@dataclass(frozen=True)
class Layer:
    """What a layer costs at every pair of candidate widths; a depthwise layer has the same side twice, and one column."""

    side_in: Side
    side_out: Side
    ms_IO: FloatArray
    macs_IO: FloatArray

    def priced(self, price_ms: float) -> tuple[FloatArray, FloatArray]:
        """Return its least cost at each width in, and at each width out."""
        cost_IO = self.ms_IO - price_ms * self.macs_IO
        return cost_IO.min(axis=1), cost_IO.min(axis=0)


def least_time(coupling: Coupling, table: LatencyTable, align: int) -> Callable[[float], float]:
    """Return a function from a share of the MACs to a time in ms that no widths with that share go below.

    Widths are multiples of `align`, of channels, or whole. Convolutions with groups must be depthwise.
    """
    layers = _layers(coupling, table, align)
    dense = coupling.macs()
    prices_ms = PRICES * table.dense_ms / dense
    lowest = np.array([_relaxed([layer.priced(price_ms) for layer in layers], layers) for price_ms in prices_ms])
    return lambda share: float(table.rest_ms + (lowest + prices_ms * share * dense).max())


def _relaxed(costs: list[tuple[FloatArray, FloatArray]], layers: list[Layer]) -> float:
    """Return the sum of the least costs of all sides, once no layer can change sides and raise it."""
    of_in = [bool(layer.side_in) for layer in layers]
    sums: dict[Side, FloatArray] = {}
    for layer, cost, first in zip(layers, costs, of_in, strict=True):
        side = layer.side_in if first else layer.side_out
        sums[side] = sums.get(side, 0) + cost[0 if first else 1]
    changed = True
    while changed:
        changed = False
        for index, (layer, cost) in enumerate(zip(layers, costs, strict=True)):
            if layer.side_in == layer.side_out:
                continue
            here, there = (layer.side_in, layer.side_out) if of_in[index] else (layer.side_out, layer.side_in)
            left = sums[here] - cost[0 if of_in[index] else 1]
            joined = sums.get(there, 0) + cost[1 if of_in[index] else 0]
            before = sums[here].min() + (sums[there].min() if there in sums else 0)
            if left.min() + joined.min() > before + 1e-12:
                sums[here], sums[there], of_in[index], changed = left, joined, not of_in[index], True
    return float(sum(total.min() for total in sums.values()))


def _layers(coupling: Coupling, table: LatencyTable, align: int) -> list[Layer]:
    grid = Grid(coupling, align)
    rungs = {name: grid.rungs(index) for index, name in enumerate(grid.names)}
    owner = {int(label): group.name for group in coupling.free for label in group.units}
    macs = coupling.layer_macs()
    if set(macs) != set(table.layers):
        raise ValueError(f"The table and the analysis differ in {sorted(set(macs) ^ set(table.layers))}.")
    found: list[Layer] = []
    for name, times in table.layers.items():
        whole_in, whole_out = times.channels_in_I[-1], times.channels_out_O[-1]
        labels = {slot.role: slot.labels for slot in coupling.slots if slot.parameter == f"{name}.weight"}
        made = labels["out"]
        depthwise = any(layer.layer == name for layer in coupling.grouped)
        read = made if depthwise else labels["in"]
        side_in, side_out = (frozenset(owner[i] for i in ids.tolist() if i in owner) for ids in (read, made))
        width_I, width_O = (_widths(side, ids, rungs, align) for side, ids in ((side_in, read), (side_out, made)))
        if depthwise:
            ms_IO = table.layer_ms_N(name, width_I, width_I)[:, None]
            share_IO = width_I[:, None] / whole_in
        else:
            ms_IO = table.layer_ms_N(name, width_I[:, None], width_O[None])
            share_IO = width_I[:, None] * width_O / (whole_in * whole_out)
        found.append(Layer(side_in, side_out, ms_IO, macs[name] * share_IO))
    return found


def _widths(side: Side, labels: IntArray, rungs: Mapping[str, IntArray], align: int) -> IntArray:
    """Return the channels a side may have; where several groups meet or part of it is frozen, more than it really may."""
    whole = len(labels)
    if not side:
        return np.array([whole])
    (name, *others) = side
    if not others and len(np.unique(labels)) == whole == rungs[name][0]:
        return np.sort(rungs[name])
    step = align if whole % align == 0 else 1
    return np.unique([*range(step, whole, step), whole])
