"""What each layer of a network costs on one machine, in milliseconds, at every width: measured points, interpolated.

Pure numbers: measuring is prunekit_export's part. Shape suffixes: I widths of a layer's input that were measured, O
those of its output, N any number of look-ups.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.latency.table_file import FORMAT, as_lists, validated
from prunekit.run import read_json, write_json
from prunekit_runtime.spelling import spelled


@dataclass(frozen=True)
class Machine:
    """What a measurement holds for; two that differ in any field cannot be compared."""

    device: str
    """Processor or GPU, as it calls itself."""
    runtime: str
    """Name and version of what ran the layers."""
    threads: int
    """CPU threads; 0 is the runtime's own choice."""
    precision: str
    """Arithmetic: fp32 or fp16."""


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one layer, all of its calls together, on a grid of widths."""

    channels_in_I: tuple[int, ...]
    """Measured input widths, ascending, the dense one last; a single one: the time depends on the output alone."""
    channels_out_O: tuple[int, ...]
    """Measured output widths, ascending, the dense one last; a single one: the time depends on the input alone."""
    ms_IO: tuple[tuple[float, ...], ...]
    """One row for each input width."""
    ragged: float = 1.0
    """How many times as long it takes where the input's width is no multiple of the table's `granule`."""

    def __post_init__(self) -> None:
        axes = (self.channels_in_I, self.channels_out_O)
        ascending = all(axis and all(low < high for low, high in itertools.pairwise(axis)) for axis in axes)
        rectangular = all(len(row) == len(self.channels_out_O) for row in self.ms_IO)
        if not ascending or not rectangular or len(self.ms_IO) != len(self.channels_in_I):
            raise PruneError(f"Measured widths {axes} do not fit {len(self.ms_IO)} rows of times. Measure again.")

    @property
    def dense_ms(self) -> float:
        """Time of the layer as it is."""
        return self.ms_IO[-1][-1]

    @cached_property
    def grid_IO(self) -> FloatArray:
        """`ms_IO` as an array."""
        return np.asarray(self.ms_IO, dtype=np.float64)


@dataclass(frozen=True)
class LatencyTable:
    """Latency of a network by the widths of its layers, for one machine and one size of input.

    The model: `network_ms` = `rest_ms` + the sum of `layer_ms`. Between measured widths a layer's time is bilinear in
    (channels in, channels out), which is what multiply-accumulates and memory traffic are (our reading). Widths are
    first rounded up to `block`, the channels that the runtime's kernels take at once, since a part of a block costs as
    much as a whole one; not so within the first block, for which there are other kernels (in ONNX Runtime slower ones:
    8 channels into a layer can take longer than 16). A layer's time holds
    what is done to its maps afterwards (resizing, concatenation), as far as that could be told; `rest_ms` is all other
    time and is counted as staying. What this misses `scaled` takes up, fed with a measured cut network
    (`prunekit.pruning.latency.loop`).
    """

    machine: Machine
    input_shape: tuple[int, ...]
    """Of the images (B, 3, H, W)."""
    layers: Mapping[str, LayerTimes]
    """By module name in the network that was analysed; what no layer carries is the rest."""
    rest_ms: float
    block: int = 1
    """Channels that the runtime's kernels take at once."""
    granule: int = 1
    """Input widths that are no multiple of this take a slow path; a layer's `ragged` says roughly how slow."""

    @property
    def dense_ms(self) -> float:
        """Latency of the network as it is: what was measured."""
        return self.rest_ms + sum(times.dense_ms for times in self.layers.values())

    def layer_ms(self, layer: str, channels_in: float, channels_out: float) -> float:
        """Return the milliseconds of a layer at these widths.

        Args:
            layer: a name in `layers`.
            channels_in: of the module, all groups together (`in_channels`, `in_features`), at least 1.
            channels_out: of the module, all groups together.

        Raises:
            PruneError: the layer is unknown, or a width is below 1 or above the dense layer's.
        """
        return float(self.layer_ms_N(layer, np.asarray([channels_in]), np.asarray([channels_out]))[0])

    def layer_ms_N(self, layer: str, channels_in_N: npt.ArrayLike, channels_out_N: npt.ArrayLike) -> FloatArray:
        """Return `layer_ms` of many pairs of widths at once; the two broadcast against each other.

        Raises:
            PruneError: as `layer_ms`.
        """
        times = self.layers.get(layer)
        if times is None:
            raise PruneError(
                f"The latency table has no layer {layer}. It was measured for another network: measure again."
            )
        wanted_in_N, wanted_out_N = (np.asarray(value, dtype=np.float64) for value in (channels_in_N, channels_out_N))
        _check_widths(layer, "input", wanted_in_N, times.channels_in_I[-1])
        _check_widths(layer, "output", wanted_out_N, times.channels_out_O[-1])
        low_i_N, high_i_N, share_i_N = _neighbours(times.channels_in_I, wanted_in_N, self.block)
        low_o_N, high_o_N, share_o_N = _neighbours(times.channels_out_O, wanted_out_N, self.block)
        grid_IO = times.grid_IO
        narrow_N = (1 - share_o_N) * grid_IO[low_i_N, low_o_N] + share_o_N * grid_IO[low_i_N, high_o_N]
        wide_N = (1 - share_o_N) * grid_IO[high_i_N, low_o_N] + share_o_N * grid_IO[high_i_N, high_o_N]
        ms_N = (1 - share_i_N) * narrow_N + share_i_N * wide_N
        return np.where(self._is_ragged(wanted_in_N, times), times.ragged * ms_N, ms_N)

    def network_ms(self, widths: Mapping[str, tuple[float, float]]) -> float:
        """Return the latency of the network with layers of (channels in, channels out); a layer not named stays dense.

        Raises:
            PruneError: as `layer_ms`.
        """
        total_ms = self.rest_ms
        for layer, times in self.layers.items():
            total_ms += self.layer_ms(layer, *widths[layer]) if layer in widths else times.dense_ms
        return total_ms

    def scaled(self, factor: float) -> "LatencyTable":
        """Return the table with every time multiplied, the rest included.

        Raises:
            PruneError: the factor is not a finite number above 0.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise PruneError(f"A latency table is scaled by a finite number above 0, got {factor}. Measure again.")
        layers = {
            name: replace(times, ms_IO=tuple(tuple(ms * factor for ms in row) for row in times.ms_IO))
            for name, times in self.layers.items()
        }
        return replace(self, layers=layers, rest_ms=self.rest_ms * factor)

    def check_machine(self, machine: Machine) -> None:
        """Refuse a table that was measured elsewhere or otherwise.

        Raises:
            PruneError: device, runtime, threads or precision differ; the message names each that does.
        """
        rows = [
            (field.name, getattr(self.machine, field.name), getattr(machine, field.name)) for field in fields(Machine)
        ]
        unlike = [f"{name} {here!r} instead of {there!r}" for name, there, here in rows if there != here]
        if unlike:
            do = spelled("Measure it here, or on the device where it was: --on HOST", "Measure it here")
            raise PruneError(f"The latency table was measured on another machine: now {', '.join(unlike)}. {do}.")

    def check_network(self, network: nn.Module) -> None:
        """Refuse a table of another network.

        Raises:
            PruneError: a layer is missing or has other widths than the table's last ones.
        """
        have = widths_of(network, self.layers)
        for layer, times in self.layers.items():
            wanted = (times.channels_in_I[-1], times.channels_out_O[-1])
            if have[layer] != wanted:
                raise PruneError(
                    f"The latency table was measured with {wanted[0]} channels into {layer} and {wanted[1]} out of it; "
                    f"here they are {have[layer][0]} and {have[layer][1]}. Measure this network."
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        layers = {name: as_lists(asdict(times)) for name, times in self.layers.items()}
        head = {"format": FORMAT, "machine": asdict(self.machine), "input_shape": list(self.input_shape)}
        return {**head, "layers": layers, "rest_ms": self.rest_ms, "block": self.block, "granule": self.granule}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LatencyTable":
        """Read a table back.

        Raises:
            PruneError: a key is unknown, a value of the wrong kind or out of range, or the format another.
        """
        file = validated(values)
        layers = {
            name: LayerTimes(
                tuple(row.channels_in_I), tuple(row.channels_out_O), tuple(map(tuple, row.ms_IO)), row.ragged
            )
            for name, row in file.layers.items()
        }
        machine = Machine(**file.machine.model_dump())
        return cls(machine, tuple(file.input_shape), layers, file.rest_ms, file.block, file.granule)

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "LatencyTable":
        """Read a table from a file of at most 32 MiB.

        Raises:
            RunError: the file is missing, too large or no JSON object.
            PruneError: it is no latency table.
        """
        return cls.from_json(read_json(path))

    def _is_ragged(self, channels_in_N: FloatArray, times: LayerTimes) -> npt.NDArray[np.bool_]:
        """Tell which inputs take the slow path; the dense width was measured as it is, whatever path it takes."""
        ragged_N = (np.ceil(channels_in_N) % self.granule != 0) & (channels_in_N > self.block)
        return ragged_N & (channels_in_N < times.channels_in_I[-1])


def widths_of(network: nn.Module, layers: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Return (channels in, channels out) of each named module, all groups together.

    Raises:
        PruneError: a module is missing or is no convolution or linear layer.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    return {layer: layer_widths(layer, modules.get(layer)) for layer in layers}


def layer_widths(name: str, module: nn.Module | None) -> tuple[int, int]:
    """Return (channels in, channels out) of a convolution or linear layer.

    Raises:
        PruneError: it is neither.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return module.in_channels, module.out_channels
    kind = "missing" if module is None else f"a {type(module).__name__}"
    raise PruneError(f"The latency table has a layer {name}, which is {kind} in this network. Measure this network.")


def _check_widths(layer: str, side: str, channels_N: FloatArray, dense: int) -> None:
    fits_N = (channels_N >= 1) & (channels_N <= dense)  # false for what is not a number, too
    if not fits_N.all():
        wrong = float(channels_N.ravel()[np.argmin(fits_N)])
        raise PruneError(f"The {side} of {layer} has 1 to {dense} channels, got {wrong:g}.")


def _neighbours(
    axis: tuple[int, ...], channels_N: FloatArray, block: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    """Return the measured widths below and above each width, as indices, and how far it is on the way between."""
    widths = np.asarray(axis, dtype=np.float64)
    in_blocks_N = (channels_N > block) & (block > 1)  # with a block of 1, fractions stay what they are
    filled_N = np.where(in_blocks_N, np.ceil(channels_N / block) * block, channels_N)
    rounded_N = np.clip(filled_N, widths[0], widths[-1])
    high_N = np.searchsorted(widths, rounded_N)
    low_N = np.maximum(high_N - 1, 0)
    span_N = np.maximum(widths[high_N] - widths[low_N], 1)  # 1: where both are the first width
    return low_N, high_N, np.clip((rounded_N - widths[low_N]) / span_N, 0, 1)
