"""From layers measured alone to layers of a network: what each took inside it, and what other operations add.

Shape suffixes: I widths of a layer's input that were measured, O those of its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prunekit.pruning.latency import LatencyTable, LayerTimes
from prunekit_export.latency.layer_timing import CONVOLUTION_OPS, is_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prunekit_export.latency.layer_onnx import LayerShape
    from prunekit_export.latency.layer_timing import LayerTimer, NetworkTime, Shape
    from prunekit_runtime.timing.kernels import Kernel


@dataclass(frozen=True)
class LayerCalls:
    """One layer of a network: its dense widths, and each call of it in a forward pass."""

    channels_in: int
    channels_out: int
    calls: tuple[LayerShape, ...]
    free_in: bool = True
    """Whether the width of its input may change."""
    free_out: bool = True
    """Whether the width of its output may change."""


def fitted_table(
    grids: Mapping[str, LayerTimes],
    layers: Mapping[str, LayerCalls],
    whole: NetworkTime,
    timer: LayerTimer,
    input_shape: tuple[int, ...],
) -> LatencyTable:
    """Fit the grids of layers measured alone to their network, and all of it to the network's wall time.

    Args:
        grids: by layer, as measured alone.
        layers: the same layers' widths and calls.
        whole: the network, with its kernels where the runtime tells them.
        timer: what measured.
        input_shape: of the images (B, 3, H, W).
    """
    inside = _inside(grids, layers, whole.nodes, timer.block)
    carried_ms = _carried(layers, whole.nodes, timer.block)
    fitted = {name: _fitted(times, inside.get(name, 1.0), carried_ms[name]) for name, times in grids.items()}
    layers_ms = sum(times.dense_ms for times in fitted.values())
    total_ms = sum(node.ms for node in whole.nodes) or whole.report.p50_ms
    # Negative where a runtime fuses layers into less than their sum: then there is no rest, and the table shrinks.
    rest_ms = max(0.0, total_ms - layers_ms)
    table = LatencyTable(timer.machine, input_shape, fitted, rest_ms, timer.block, timer.granule)
    return table.scaled(whole.report.p50_ms / table.dense_ms)


def _fitted(times: LayerTimes, factor: float, carried_ms: float) -> LayerTimes:
    """Scale a grid, and add a time that goes with the width of the output."""
    outputs_O = np.asarray(times.channels_out_O)
    grid_IO = factor * times.grid_IO + carried_ms * outputs_O / outputs_O[-1]
    return replace(times, ms_IO=tuple(tuple(map(float, row)) for row in grid_IO))


def _inside(
    grids: Mapping[str, LayerTimes], layers: Mapping[str, LayerCalls], nodes: Sequence[Kernel], block: int
) -> dict[str, float]:
    """Return for each layer the time of kernels of its shape inside the network, over that of the same layers alone.

    Kernels carry no names of layers, so layers of one shape share a factor; one whose kernel is not found keeps 1.
    """
    kernel_ms: dict[object, float] = {}
    for node in nodes:
        if is_layer(node):
            key = _node_key(node, block)
            kernel_ms[key] = kernel_ms.get(key, 0.0) + node.ms
    alone_ms: dict[object, float] = {}
    keys = {name: {_call_key(layer, call, block) for call in layer.calls} for name, layer in layers.items()}
    for name, times in grids.items():
        if len(keys[name]) == 1:
            key = next(iter(keys[name]))
            alone_ms[key] = alone_ms.get(key, 0.0) + times.dense_ms
    return {
        name: kernel_ms[key] / alone_ms[key]
        for name, found in keys.items()
        for key in found
        if len(found) == 1 and key in kernel_ms and alone_ms[key] > 0
    }


def _carried(layers: Mapping[str, LayerCalls], nodes: Sequence[Kernel], block: int) -> dict[str, float]:
    """Share the time of kernels that are no layers out over the layers whose outputs they work on.

    Resizing, concatenation, pooling and conversions of layout go channel by channel, so they shrink with the layer that
    made what they read, directly or by way of another such kernel. Profiles name no tensors: an operand is taken for
    the latest output of its shape (our reading). What reads no output of a layer stays in the rest.
    """
    names: dict[object, list[str]] = {}
    for name, layer in layers.items():
        for key in dict.fromkeys(_call_key(layer, call, block) for call in layer.calls):
            names.setdefault(key, []).append(name)
    carriers: list[dict[str, float]] = []
    carried_ms = dict.fromkeys(layers, 0.0)
    for index, node in enumerate(nodes):
        if is_layer(node):
            found = names.get(_node_key(node, block), [])
            carriers.append({name: 1 / len(found) for name in found})
            continue
        carriers.append(_mixed(node, nodes[:index], carriers))
        for name, share in carriers[index].items():
            carried_ms[name] += share * node.ms
    return carried_ms


def _mixed(node: Kernel, earlier: Sequence[Kernel], carriers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the layers that made a kernel's operands, weighted by the operands' sizes; each output counts once."""
    sizes = [math.prod(shape) for shape in node.inputs]
    mixture: dict[str, float] = {}
    used: set[int] = set()
    for shape, size in zip(node.inputs, sizes, strict=True):
        makers = [number for number, maker in enumerate(earlier) if maker.output == shape and number not in used]
        if not makers:
            continue
        used.add(makers[-1])
        for name, share in carriers[makers[-1]].items():
            mixture[name] = mixture.get(name, 0.0) + share * size / max(sum(sizes), 1)
    return mixture


def _node_key(node: Kernel, block: int) -> object:
    """Return what a kernel and a call have in common: sizes, widths filled up to blocks, a convolution's weight.

    Runtimes do not list weights that they have repacked, as ONNX Runtime does for products and transposed convolutions.
    """
    inputs = node.inputs[0]
    if node.op not in CONVOLUTION_OPS:
        return ("linear", math.prod(inputs[:-1]), inputs[-1], node.output[-1])
    filled = (_filled(inputs[1], block), _filled(node.output[1], block))
    weight: Shape | None = node.inputs[1] if len(node.inputs) > 1 and len(node.inputs[1]) == 4 else None
    if node.op == "ConvTranspose" or weight is None:
        return ("transposed", filled, inputs[2:], node.output[2:])
    return ("conv", filled, inputs[2:], node.output[2:], weight[2:], weight[1] < inputs[1])


def _call_key(layer: LayerCalls, call: LayerShape, block: int) -> object:
    if call.kind == "linear":
        return ("linear", call.height, layer.channels_in, layer.channels_out)
    filled = (_filled(layer.channels_in, block), _filled(layer.channels_out, block))
    key = (call.kind, filled, (call.height, call.width), call.output_size)
    return key if call.kind == "transposed" else (*key, call.kernel, call.grouped)


def _filled(channels: int, block: int) -> int:
    return math.ceil(channels / block) * block
