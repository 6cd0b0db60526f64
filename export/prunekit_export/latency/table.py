"""Measure what the layers of a network cost on this machine, width by width, and put it into a LatencyTable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunekit.pruning.latency import LatencyTable, LayerTimes, layer_widths
from prunekit_export.errors import ExportError
from prunekit_export.latency.cache import LatencyCache
from prunekit_export.latency.fit import LayerCalls, fitted_table
from prunekit_export.latency.layer_onnx import LayerShape, shape_of_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from prunekit.pruning.coupling import Coupling
    from prunekit_export.latency.layer_timing import LayerTime, LayerTimer

# Each pass goes through all points and the fastest time counts, so that a spell of other load spoils one pass only.
PASSES = 2
# A cache is measured anew where over a quarter of a sample of it is now faster by a tenth, more than quiet runs differ.
_SAMPLE, _FASTER, _FASTER_SHARE = 24, 0.9, 0.25
_SAVED_EVERY = 50
"""Points; a second or two of work."""


@dataclass(frozen=True)
class _Point:
    """One measurement: a layer at a pair of widths."""

    layer: LayerShape
    channels_in: int
    channels_out: int


def measure_latency_table(
    segmenter: nn.Module,
    input_shape: tuple[int, int, int, int],
    timer: LayerTimer,
    *,
    coupling: Coupling | None = None,
    cache: LatencyCache | None = None,
    passes: int = PASSES,
    on_progress: Callable[[int, int], None] | None = None,
    deployed: nn.Module | None = None,
) -> LatencyTable:
    """Time every layer of `segmenter` on a grid of widths, and the whole of it, and return the table.

    Each layer is timed alone; where the runtime tells its kernels' times, the grid is then scaled so that its dense
    corner is what the layer took inside the network, and what other operations took is added to the layers whose
    outputs they work on (`latency_fit`). Everything is scaled once more so that the table's dense latency is the
    measured one.

    Args:
        segmenter: images -> logits, as it is exported; layers are named as in its `network` if it has one, which is
            what pruning analyses, else as in itself.
        input_shape: of the images (B, 3, H, W).
        timer: what measures.
        coupling: the analysis of the network; sides of layers that it freezes are then measured dense only.
        cache: times measured earlier, extended and saved; None takes the user's.
        passes: how often each point is measured; the fastest counts.
        on_progress: told (points measured, points in all).
        deployed: what is timed as the whole network, where that is not `segmenter` itself but a folded copy.

    Raises:
        ExportError: the network cannot be exported or run, it has no layer to time, or the cache cannot be used.
    """
    layers = layer_calls(segmenter, input_shape, coupling)
    if not layers:
        raise ExportError("The network has no convolution and no linear layer, so there is nothing to time.")
    kept = LatencyCache(timer.machine) if cache is None else cache
    if kept.machine != timer.machine:
        raise ExportError(f"The cache is of {kept.machine}, not of {timer.machine}. Open the cache of this machine.")
    _measure(_points(layers, timer), timer, kept, passes, on_progress or (lambda _done, _total: None))
    whole = timer.network(segmenter if deployed is None else deployed, input_shape)
    grids = {name: _times(calls, timer, kept) for name, calls in layers.items()}
    return fitted_table(grids, layers, whole, timer, input_shape)


def layer_calls(
    segmenter: nn.Module, input_shape: tuple[int, int, int, int], coupling: Coupling | None = None
) -> dict[str, LayerCalls]:
    """Run the network once and note every call of a 2-D convolution or linear layer, in the order of execution."""
    import torch
    from torch import nn

    network = inner_network(segmenter)
    names = {module: name for name, module in network.named_modules()}
    calls: dict[str, list[LayerShape]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            calls.setdefault(names[module], []).append(shape_of_call(module, inputs[0]))

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [module.register_forward_hook(note) for module in names if isinstance(module, kinds)]
    modes = [(module, module.training) for module in segmenter.modules()]
    device = next((parameter.device for parameter in segmenter.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            segmenter.eval()(torch.zeros(input_shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return {name: _layer(name, network, tuple(found), coupling) for name, found in calls.items()}


def inner_network(segmenter: nn.Module) -> nn.Module:
    """Return the network that pruning analyses: the one inside a Segmenter, or the module itself."""
    from prunekit.models.segmenter import Segmenter

    return segmenter.network if isinstance(segmenter, Segmenter) else segmenter


def _layer(name: str, network: nn.Module, calls: tuple[LayerShape, ...], coupling: Coupling | None) -> LayerCalls:
    channels_in, channels_out = layer_widths(name, network.get_submodule(name))
    if coupling is None:
        return LayerCalls(channels_in, channels_out, calls)
    free = {int(label) for group in coupling.free for label in group.units}
    sides = {
        slot.role: bool(free.intersection(slot.labels.tolist()))
        for slot in coupling.slots
        if slot.parameter == f"{name}.weight"
    }
    if not sides:  # a tied weight is known by its first name
        return LayerCalls(channels_in, channels_out, calls)
    # A grouped layer loses whole groups: what frees its output frees its input.
    return LayerCalls(channels_in, channels_out, calls, sides.get("in", False), sides.get("out", False))


def _axes(layer: LayerCalls, timer: LayerTimer) -> list[tuple[int, int]]:
    """Return the pairs of widths a layer is measured at."""
    group_in, group_out = layer.calls[0].group
    if layer.calls[0].grouped:
        counts = _axis(layer.channels_out // group_out, timer, per_unit=group_out, free=layer.free_out or layer.free_in)
        return [(count * group_in, count * group_out) for count in counts]
    inputs = _axis(layer.channels_in, timer, free=layer.free_in)
    if layer.free_in and timer.granule > 1 and 2 < timer.block <= layer.channels_in:
        # Below one block ONNX Runtime reads the plain layout, ever slower up to one channel less than a block.
        inputs = sorted({*inputs, timer.block - 1})
    outputs = _axis(layer.channels_out, timer, free=layer.free_out)
    return [(channels_in, channels_out) for channels_in in inputs for channels_out in outputs]


def _axis(dense: int, timer: LayerTimer, *, per_unit: int = 1, free: bool = True) -> list[int]:
    """Return the widths to measure, ascending, in units of `per_unit` channels.

    Half a block, for which runtimes have kernels of their own, one block, and shares of the dense width.
    """
    if not free:
        return [dense]
    block = max(1, timer.block // math.gcd(timer.block, per_unit))
    rounded = [max(1, block // 2), block, *(math.ceil(share * dense / block) * block for share in timer.shares)]
    return sorted({min(value, dense) for value in rounded})


def _points(layers: Mapping[str, LayerCalls], timer: LayerTimer) -> list[_Point]:
    """Return what has to be measured, each once."""
    points: dict[_Point, None] = {}
    for layer in layers.values():
        for call in layer.calls:
            points.update(dict.fromkeys(_Point(call, *pair) for pair in _axes(layer, timer)))
            points.update(dict.fromkeys(_ragged_points(call, layer, timer)))
    return list(points)


def _ragged_points(call: LayerShape, layer: LayerCalls, timer: LayerTimer) -> list[_Point]:
    """Return the layer at about half of its width, and with an input one unit narrower, where that is a slow path."""
    if call.kind != "conv" or timer.granule == 1 or not layer.free_in:
        return []
    unit_in, unit_out = call.group if call.grouped else (1, 0)
    step = math.lcm(timer.granule, unit_in)
    # Inputs within one block are read as they come, whatever their width; then only the dense width can tell.
    half_in = layer.channels_in // 2 // step * step
    wide_in = half_in if half_in - unit_in > timer.block else layer.channels_in // step * step
    narrow_in = wide_in - unit_in
    if narrow_in <= timer.block or narrow_in % timer.granule == 0:
        return []
    if call.grouped:
        pairs = [(wide, wide // unit_in * unit_out) for wide in (wide_in, narrow_in)]
    else:
        pairs = [(wide, math.ceil(layer.channels_out / 2)) for wide in (wide_in, narrow_in)]
    return [_Point(call, *pair) for pair in pairs]


def _measure(
    points: Sequence[_Point],
    timer: LayerTimer,
    cache: LatencyCache,
    passes: int,
    tell: Callable[[int, int], None],
) -> None:
    """Measure what the cache lacks; each pass goes through all points, and what it finds is saved as it goes."""
    if passes < 1:
        raise ExportError(f"A latency is measured in at least 1 pass, got {passes}.")
    known = [point for point in points if cache.passes(*_key(point)) >= passes]
    stale = _stale(known, timer, cache)
    new = [point for point in points if stale or cache.passes(*_key(point)) < passes]
    try:
        for number in range(passes):
            for index, point in enumerate(new, start=1):
                if stale or cache.passes(*_key(point)) <= number:  # else an interrupted measuring came this far
                    cache.add(*_key(point), timer.layer(point.layer, point.channels_in, point.channels_out))
                if index % _SAVED_EVERY == 0 or index == len(new):
                    cache.save()
                tell(number * len(new) + index, passes * len(new))
    except Exception:
        cache.save()  # a device that is gone, say: the next attempt goes on from here
        raise


def _stale(known: Sequence[_Point], timer: LayerTimer, cache: LatencyCache) -> bool:
    """Tell whether cached times were taken while the machine was busy: a sample is measured again and is faster."""
    sample = known[:: max(1, len(known) // _SAMPLE)]
    faster = [
        point
        for point in sample
        if timer.layer(point.layer, point.channels_in, point.channels_out).layer_ms
        < _FASTER * _found(cache, point.layer, point.channels_in, point.channels_out).layer_ms
    ]
    return len(faster) > _FASTER_SHARE * len(sample)


def _key(point: _Point) -> tuple[str, int, int]:
    return point.layer.key, point.channels_in, point.channels_out


def _times(layer: LayerCalls, timer: LayerTimer, cache: LatencyCache) -> LayerTimes:
    """Return the grid of a layer as measured alone, its calls added up.

    Noise that makes a narrower layer slower is taken out by the running maximum, but not where the input is narrower
    than one block: such layers can really be slower than those of a whole one.
    """
    pairs = _axes(layer, timer)
    if layer.calls[0].grouped:
        pairs = [(layer.channels_in, channels_out) for _, channels_out in pairs]
    inputs, outputs = sorted({pair[0] for pair in pairs}), sorted({pair[1] for pair in pairs})
    grid_IO = np.zeros((len(inputs), len(outputs)))
    for call in layer.calls:
        found = [_found(cache, call, *pair).layer_ms for pair in _axes(layer, timer)]
        grid_IO += np.asarray(found).reshape(grid_IO.shape)
    first = sum(width < timer.block for width in inputs)
    grid_IO[first:] = np.maximum.accumulate(grid_IO[first:], axis=0)
    rows = tuple(tuple(map(float, row)) for row in np.maximum.accumulate(grid_IO, axis=1))
    return LayerTimes(tuple(inputs), tuple(outputs), rows, _ragged(layer, timer, cache))


def _ragged(layer: LayerCalls, timer: LayerTimer, cache: LatencyCache) -> float:
    """Return how many times as long the layer takes on the slow path, conversions that neighbours then pay included."""
    fast_ms = slow_ms = 0.0
    for call in layer.calls:
        for wide, narrow in zip(*[iter(_ragged_points(call, layer, timer))] * 2, strict=True):
            fast = _found(cache, wide.layer, wide.channels_in, wide.channels_out)
            slow = _found(cache, narrow.layer, narrow.channels_in, narrow.channels_out)
            fast_ms += fast.layer_ms
            slow_ms += slow.layer_ms + fast.around_ms
    return max(1.0, slow_ms / fast_ms) if fast_ms > 0 else 1.0


def _found(cache: LatencyCache, call: LayerShape, channels_in: int, channels_out: int) -> LayerTime:
    time = cache.get(call.key, channels_in, channels_out)
    assert time is not None, "every point of a grid is measured before it is read"
    return time
