"""What a network costs at given widths: MACs, parameters, milliseconds; many candidate allocations at once.

Shapes: N candidates, G free groups, D channel dimensions, E pairs of a dimension and a group that lies in it, T terms.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.coupling import Coupling, GroupedLayer

Orders = Mapping[str, IntArray]
"""For each free group its unit positions, the first to go first."""

_MOST_CHANNELS = 2**20
"""More than any layer has: layer, channels in and channels out make one 64-bit key."""


class CostModel(Protocol):
    """A cost that follows from the widths alone, given the order in which each group loses its units."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, in the order of the columns of `totals`."""
        ...

    def totals(self, widths_NG: IntArray) -> FloatArray:
        """Return the cost of each row of widths, one column per group."""
        ...

    def total(self, widths: Mapping[str, int]) -> float:
        """Return the cost at these widths; a group not named stays whole."""
        ...


class LayerWidths(Protocol):
    """A measured layer; its widths ascend to those it has in the dense network."""

    @property
    def channels_in_I(self) -> tuple[int, ...]:
        """Measured input widths."""
        ...

    @property
    def channels_out_O(self) -> tuple[int, ...]:
        """Measured output widths."""
        ...


class LayerTable(Protocol):
    """Measured milliseconds of each layer by its channels; what `prunekit.pruning.latency.table` provides."""

    @property
    def layers(self) -> Mapping[str, LayerWidths]:
        """The layers measured, by name."""
        ...

    @property
    def rest_ms(self) -> float:
        """What the operations that are no such layer cost."""
        ...

    def layer_ms_N(self, layer: str, channels_in_N: npt.ArrayLike, channels_out_N: npt.ArrayLike) -> FloatArray:
        """Return the milliseconds of one layer at many pairs of widths."""
        ...


class Counts:
    """How many channels stay along each of some dimensions: sums of one table entry per group that lies in them."""

    def __init__(self, coupling: Coupling, orders: Orders, dims: Sequence[IntArray]) -> None:
        owner, rank = _ranks(coupling, orders)
        whole = [group.width for group in coupling.free]
        tables: list[IntArray] = []
        entries: list[tuple[int, int]] = []  # (group, 1 if the table is read at the group's width)
        starts: list[int] = []
        for labels in dims:
            starts.append(len(entries))
            own = owner[labels]
            tables.append(np.array([np.count_nonzero(own < 0)]))
            entries.append((0, 0))
            for group in np.unique(own[own >= 0]).tolist():
                tables.append(_kept_by_width(rank[labels[own == group]], whole[group]))
                entries.append((group, 1))
        self._table = np.concatenate(tables) if tables else np.zeros(0, dtype=np.int64)
        lengths = [len(table) for table in tables]
        self._offset_E = np.cumsum([0, *lengths])[:-1]
        self._group_E = np.array([group for group, _ in entries], dtype=np.int64)
        self._reads_E = np.array([reads for _, reads in entries], dtype=np.int64)
        self._start_D = np.array(starts, dtype=np.int64)

    def __call__(self, widths_NG: IntArray) -> IntArray:
        """Return counts_ND of the channels that stay."""
        if not len(self._start_D):
            return np.zeros((len(widths_NG), 0), dtype=np.int64)
        kept_NE = self._table[self._offset_E + widths_NG[:, self._group_E] * self._reads_E]
        return np.add.reduceat(kept_NE, self._start_D, axis=1)


def _ranks(coupling: Coupling, orders: Orders) -> tuple[IntArray, IntArray]:
    """Return for each label the free group it belongs to, or -1, and how many units of it go earlier."""
    owner = np.full(coupling.label_count, -1, dtype=np.int64)
    rank = np.zeros(coupling.label_count, dtype=np.int64)
    for number, group in enumerate(coupling.free):
        owner[group.units] = number
        rank[group.units[orders[group.name]]] = np.arange(group.width)
    return owner, rank


def _kept_by_width(ranks: IntArray, width: int) -> IntArray:
    """Return how many of the channels with these ranks stay, for each width of their group from 0 to `width`."""
    last_first = np.bincount(ranks, minlength=width)[::-1]
    return np.concatenate([[0], np.cumsum(last_first)]).astype(np.int64)


class _Products:
    """A sum of products of channel counts."""

    def __init__(self, coupling: Coupling, orders: Orders, terms: Iterable[tuple[int, Sequence[IntArray]]]) -> None:
        self.names = tuple(group.name for group in coupling.free)
        self._whole = {group.name: group.width for group in coupling.free}
        dims: dict[bytes, int] = {}  # equal dimensions are counted once
        arrays: list[IntArray] = []
        factors: dict[tuple[int, ...], int] = {}  # terms over the same dimensions are added up
        for factor, labels in terms:
            for array in labels:
                if dims.setdefault(array.tobytes(), len(arrays)) == len(arrays):
                    arrays.append(array)
            key = tuple(sorted(dims[array.tobytes()] for array in labels))
            factors[key] = factors.get(key, 0) + factor
        self._counts = Counts(coupling, orders, arrays)
        self._factor_T = np.array(list(factors.values()), dtype=np.int64)
        longest = max((len(key) for key in factors), default=0)
        # Shorter terms are filled up with the column of ones behind the last dimension.
        rows = [[*key, *[len(arrays)] * (longest - len(key))] for key in factors]
        self._dims_TK = np.array(rows, dtype=np.int64).reshape(len(rows), longest)

    def totals(self, widths_NG: IntArray) -> FloatArray:
        """Return the cost of each row of widths, one column per group."""
        counts_ND = self._counts(widths_NG)
        counts_ND = np.concatenate([counts_ND, np.ones((len(counts_ND), 1), dtype=np.int64)], axis=1)
        products_NT = self._factor_T * counts_ND[:, self._dims_TK].prod(axis=2)
        return products_NT.sum(axis=1).astype(np.float64)

    def total(self, widths: Mapping[str, int]) -> float:
        """Return the cost at these widths; a group not named stays whole."""
        return float(self.totals(_row(self.names, self._whole, widths))[0])


def _row(names: Sequence[str], whole: Mapping[str, int], widths: Mapping[str, int]) -> IntArray:
    """Return widths as a matrix of one row."""
    unknown = sorted(set(widths) - set(names))
    if unknown:
        raise PruneError(f"No channel group that may be pruned is called {unknown[0]}. Known: {', '.join(names)}.")
    wrong = next((name for name, width in widths.items() if not 0 <= width <= whole[name]), None)
    if wrong is not None:
        raise PruneError(f"Group {wrong} has {whole[wrong]} units and cannot keep {widths[wrong]}.")
    return np.array([[widths.get(name, whole[name]) for name in names]], dtype=np.int64)


class MacsCost(_Products):
    """Multiply-accumulates of the example input: equal to `Coupling.macs`, without counting labels again each time."""

    def __init__(self, coupling: Coupling, orders: Orders) -> None:
        super().__init__(coupling, orders, ((cost.positions, cost.dims) for cost in coupling.costs))


class ParamsCost(_Products):
    """Number of parameters: equal to `Coupling.params`."""

    def __init__(self, coupling: Coupling, orders: Orders) -> None:
        super().__init__(coupling, orders, _parameters(coupling))


def _parameters(coupling: Coupling) -> list[tuple[int, tuple[IntArray, ...]]]:
    """Return for each parameter the product of its fixed lengths, and the labels along its others."""
    slots: dict[str, dict[int, IntArray]] = {}
    for slot in coupling.slots:
        slots.setdefault(slot.parameter, {})[slot.dim] = slot.labels
    terms: list[tuple[int, tuple[IntArray, ...]]] = []
    for name, shape in coupling.shapes.items():
        own = slots.get(name, {})
        fixed = int(np.prod([length for dim, length in enumerate(shape) if dim not in own], dtype=np.int64))
        terms.append((fixed, tuple(own.values())))
    return terms


class LatencyCost:
    """Milliseconds by a table of measured layers: the sum over layers at their channels in and out, and the rest.

    Layers may have fewer channels here than in the table: the network may have been cut since.

    Raises:
        PruneError: a layer of the table is missing or wider here: it was measured for another network.
    """

    def __init__(self, coupling: Coupling, orders: Orders, table: LayerTable) -> None:
        self.names = tuple(group.name for group in coupling.free)
        self._whole = {group.name: group.width for group in coupling.free}
        self._table = table
        self._layers = tuple(table.layers)
        dims = [labels for layer in self._layers for labels in _in_and_out(coupling, layer, table.layers[layer])]
        self._counts = Counts(coupling, orders, dims)
        self._known_ms: dict[int, float] = {}

    def totals(self, widths_NG: IntArray) -> FloatArray:
        """Return the milliseconds of each row of widths, one column per group."""
        counts_NL2 = self._counts(widths_NG).reshape(len(widths_NG), len(self._layers), 2)
        layer_L = np.arange(len(self._layers))
        code_NL = (layer_L * _MOST_CHANNELS + counts_NL2[:, :, 0]) * _MOST_CHANNELS + counts_NL2[:, :, 1]
        codes, where = np.unique(code_NL, return_inverse=True)
        # Candidates share nearly all of their layers: each layer at each pair of widths is looked up once, ever.
        self._look_up([code for code in codes.tolist() if code not in self._known_ms])
        values_ms = np.array([self._known_ms[code] for code in codes.tolist()])
        return values_ms[where].reshape(code_NL.shape).sum(axis=1) + self._table.rest_ms

    def total(self, widths: Mapping[str, int]) -> float:
        """Return the milliseconds at these widths; a group not named stays whole."""
        return float(self.totals(_row(self.names, self._whole, widths))[0])

    def _look_up(self, codes: Sequence[int]) -> None:
        by_layer: dict[int, list[int]] = {}
        for code in codes:
            by_layer.setdefault(code // _MOST_CHANNELS**2, []).append(code)
        for layer, own in by_layer.items():
            channels_in_N, channels_out_N = np.divmod(np.array(own) % _MOST_CHANNELS**2, _MOST_CHANNELS)
            found_ms = self._table.layer_ms_N(self._layers[layer], channels_in_N, channels_out_N)
            self._known_ms.update(zip(own, found_ms.tolist(), strict=True))


def _in_and_out(coupling: Coupling, layer: str, measured: LayerWidths) -> tuple[IntArray, IntArray]:
    """Return the labels of all input and all output channels of a layer."""
    labels_in, labels_out = _labels(coupling, layer)
    # A grouped convolution that loses the same positions of every group lists the input channels of one group; its
    # outputs are tied across groups. Elsewhere fewer channels than measured are those of a network cut before.
    groups, rest = divmod(measured.channels_in_I[-1], max(1, len(labels_in)))
    if groups > 1 and not rest and len(labels_out) % groups == 0:
        out_GO = labels_out.reshape(groups, -1)
        labels_in = np.tile(labels_in, groups if bool((out_GO == out_GO[0]).all()) else 1)
    return labels_in, labels_out


def _labels(coupling: Coupling, layer: str) -> tuple[IntArray, IntArray]:
    slots = {slot.role: slot.labels for slot in coupling.slots if slot.parameter == f"{layer}.weight"}
    grouped = next((found for found in coupling.grouped if found.layer == layer), None)
    if grouped is not None:
        return grouped.labels, slots.get("out", _made_by_groups(coupling, grouped))
    if "in" in slots and "out" in slots:
        return slots["in"], slots["out"]
    cost = next((cost for cost in coupling.costs if cost.layer == layer and len(cost.dims) == 2), None)
    if cost is None:
        raise PruneError(
            f"The latency table holds layer {layer}, which this network lacks: it was measured for another network. "
            "Measure this one."
        )
    return cost.dims[1], cost.dims[0]  # a weight shared under another name: MACs are counted out x in


def _made_by_groups(coupling: Coupling, grouped: GroupedLayer) -> IntArray:
    """Return the output labels of a grouped transposed convolution: each group makes a fixed number of channels."""
    first_G = grouped.labels.reshape(grouped.groups, -1)[:, 0]
    return np.repeat(first_G, coupling.shapes[f"{grouped.layer}.weight"][1])
