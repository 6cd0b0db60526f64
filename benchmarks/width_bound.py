"""A proof of how little time a share of the MACs can take on a machine, whatever widths are chosen.

By a latency table, and by weak duality (Geoffrion 1974, Lagrangean relaxation): with a price p on MACs, the least of
(time - p MACs) over all widths, and p m on top, is no more than the time of any widths that leave m MACs or more. That least
value is relaxed in turn: every layer is counted with one of its two sides, input or output, and has its other side to itself.
Layers counted with the same side agree on its width. Shapes: I candidates for a layer's width in, O for its width out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunekit.pruning.allocation import Grid
from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency import LatencyTable

PRICES = np.geomspace(0.2, 2.0, 60)
"""Of the MACs of the whole network, in times of the whole network; any set of prices proves something."""
GAIN_MS = 1e-12
"""A layer changes sides for more than rounding."""


@dataclass(frozen=True)
class Layer:
    """What a layer costs at every pair of candidate widths; a depthwise layer has the same side twice, and one column."""

    sides: tuple[bytes, bytes]
    """Which channels it reads and makes, equal where they are the same ones; empty where none of them can go."""
    ms_IO: FloatArray
    macs_IO: FloatArray

    def priced(self, price_ms: float) -> tuple[FloatArray, FloatArray]:
        """Return its least cost at each width in, and at each width out, with a price in ms a MAC."""
        cost_IO = self.ms_IO - price_ms * self.macs_IO
        return cost_IO.min(axis=1), cost_IO.min(axis=0)


def least_time(coupling: Coupling, table: LatencyTable, align: int) -> Callable[[float], float]:
    """Return a function from a share of the MACs to a time in ms that no widths with that share go below.

    Widths are multiples of `align` channels, at least one of them, or whole.

    Raises:
        ValueError: the table is of other layers, or a layer has groups and is not depthwise.
    """
    layers = _layers(coupling, table, align)
    dense = coupling.macs()
    prices_ms = PRICES * table.dense_ms / dense
    least_ms = np.array([_relaxed(layers, [layer.priced(price_ms) for layer in layers]) for price_ms in prices_ms])
    return lambda share: float(table.rest_ms + (least_ms + prices_ms * share * dense).max())


def _relaxed(layers: Sequence[Layer], costs: Sequence[tuple[FloatArray, FloatArray]]) -> float:
    """Return the sum of the least costs of all sides, once no layer can change sides and raise it."""
    chosen = [0 if layer.sides[0] else 1 for layer in layers]
    sums: dict[bytes, FloatArray] = {}
    for layer, cost, at in zip(layers, costs, chosen, strict=True):
        sums[layer.sides[at]] = sums.get(layer.sides[at], 0.0) + cost[at]
    moved = True
    while moved:
        moved = False
        for index, (layer, cost) in enumerate(zip(layers, costs, strict=True)):
            at, other = chosen[index], 1 - chosen[index]
            here, there = layer.sides[at], layer.sides[other]
            if here == there:
                continue
            left, joined = sums[here] - cost[at], sums.get(there, 0.0) + cost[other]
            before = sums[here].min() + (sums[there].min() if there in sums else 0.0)
            if left.min() + joined.min() > before + GAIN_MS:
                sums[here], sums[there], chosen[index], moved = left, joined, other, True
    return float(sum(total.min() for total in sums.values()))


def _layers(coupling: Coupling, table: LatencyTable, align: int) -> list[Layer]:
    grid = Grid(coupling, align, floor=0.0)
    rungs = {group.name: np.sort(grid.rungs(index)) for index, group in enumerate(coupling.free)}
    owner = {int(label): group.name for group in coupling.free for label in group.units}
    macs, grouped = coupling.layer_macs(), {layer.layer: layer for layer in coupling.grouped}
    if set(macs) != set(table.layers):
        raise ValueError(f"The table and the analysis differ in {sorted(set(macs) ^ set(table.layers))}.")
    found: list[Layer] = []
    for name in table.layers:
        labels = {slot.role: slot.labels for slot in coupling.slots if slot.parameter == f"{name}.weight"}
        made = labels["out"]
        read = made if name in grouped else labels["in"]
        if name in grouped and grouped[name].groups != len(made):
            raise ValueError(
                f"{name} has {grouped[name].groups} groups of {len(made)} channels; only depthwise layers do."
            )
        width_I, width_O = _widths(read, owner, rungs), _widths(made, owner, rungs)
        if name in grouped:
            ms_IO, share_IO = table.layer_ms_N(name, width_I, width_I)[:, None], width_I[:, None] / len(made)
        else:
            ms_IO = table.layer_ms_N(name, width_I[:, None], width_O[None])
            share_IO = width_I[:, None] * width_O / (len(read) * len(made))
        found.append(Layer((_side(read, owner), _side(made, owner)), ms_IO, macs[name] * share_IO))
    return found


def _side(labels: IntArray, owner: Mapping[int, str]) -> bytes:
    return np.sort(labels).tobytes() if any(label in owner for label in labels.tolist()) else b""


def _widths(labels: IntArray, owner: Mapping[int, str], rungs: Mapping[str, IntArray]) -> IntArray:
    """Return how many of these channels may stay: what their group may keep, or any number where that is not so plain."""
    whole, groups = len(labels), {owner.get(label) for label in labels.tolist()}
    if groups == {None}:
        return np.array([whole])
    (name, *others) = groups
    if not others and name is not None and len(np.unique(labels)) == whole == rungs[name][-1]:
        return rungs[name]
    return np.arange(1, whole + 1)
