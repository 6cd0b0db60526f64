"""Which layers are worth int8, by what TensorRT does with them.

A product is a convolution, transposed convolution or matrix product with constant weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Int8 kernels work on vectors of channels. Below these, TensorRT pads or takes another kernel, and int8 is the slower
# one: the rule by which NVIDIA ModelOpt leaves convolutions out.
MIN_CHANNELS, CHANNEL_STEP = 16, 8


@dataclass(frozen=True)
class KeptLayer:
    """A product that is not quantised, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Layers:
    """Names of products, in the order of the graph."""

    quantised: tuple[str, ...]
    kept: tuple[KeptLayer, ...]

    def without(self, names: Mapping[str, str]) -> Layers:
        """Return these with more layers kept, by name, for a reason each."""
        moved = tuple(KeptLayer(name, names[name]) for name in self.quantised if name in names)
        return Layers(tuple(name for name in self.quantised if name not in names), (*self.kept, *moved))


def layers_of(model: onnx.ModelProto) -> Layers:
    """Return the products of a float32 model that are worth int8, and those that are not.

    Not: products of two activations (attention), the last ones, whose rounding would be that of the logits, and those
    with few channels or a number that is no multiple of 8.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    last = frozenset(_last_products(model))
    quantised: list[str] = []
    kept: list[KeptLayer] = []
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        dims = weights.get(node.input[1])
        reason = "it multiplies two activations" if dims is None else _unsuited(node, dims)
        if node.name in last:
            reason = "it gives the logits"
        if reason is None:
            quantised.append(node.name)
        else:
            kept.append(KeptLayer(node.name, reason))
    return Layers(tuple(quantised), tuple(kept))


def _last_products(model: onnx.ModelProto) -> Iterator[str]:
    """Yield the products after which no other product comes."""
    leads: set[str] = set()  # tensors that a product reads, directly or not
    for node in reversed(model.graph.node):
        is_product = node.op_type in PRODUCTS
        reaches = any(name in leads for name in node.output)
        if is_product and not reaches:
            yield node.name
        if is_product or reaches:
            leads.update(name for name in node.input if name)


def _unsuited(node: onnx.NodeProto, dims: tuple[int, ...]) -> str | None:
    """Return why a product's numbers of channels do not suit int8; None where they do."""
    if len(dims) < 2:
        return "its weights are no matrix"
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    channels_in, channels_out = _channels(node, dims, groups)
    if groups > 1 and channels_out % CHANNEL_STEP == 0 and channels_in % CHANNEL_STEP == 0:
        return None
    for words, count in (("input", channels_in), ("output", channels_out)):
        if count < MIN_CHANNELS:
            return f"it has {count} {words} channels, and int8 pays from {MIN_CHANNELS} on"
        if count % CHANNEL_STEP:
            return f"it has {count} {words} channels, which is no multiple of {CHANNEL_STEP}"
    return None


def _channels(node: onnx.NodeProto, dims: tuple[int, ...], groups: int) -> tuple[int, int]:
    if node.op_type == "Conv":
        return dims[1] * groups, dims[0]
    if node.op_type == "ConvTranspose":
        return dims[0], dims[1] * groups
    transposed = node.op_type == "Gemm" and any(each.name == "transB" and each.i for each in node.attribute)
    return (dims[-1], dims[-2]) if transposed else (dims[-2], dims[-1])
