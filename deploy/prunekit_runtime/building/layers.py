"""What a built engine computes in, layer by layer, joined to the nodes of the ONNX file.

A layer of an engine holds several nodes, whose names stand in its metadata as "[ONNX Layer: NAME]". What a convolution
or a matrix product computes in is told by the type of its weights, else by the name of its kernel, else by its inputs.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from prunekit_runtime.errors import BuildError
from prunekit_runtime.text import printable_name

UNKNOWN = "unknown"
_PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
# What counts as following a wish: nothing wider than was asked for.
_NARROW = {
    "fp16": ("fp16", "bf16", "fp8", "int8", "fp4", "int4"),
    "bf16": ("fp16", "bf16", "fp8", "int8", "fp4", "int4"),
    "int8": ("int8", "fp8", "fp4", "int4"),
    "fp8": ("int8", "fp8", "fp4", "int4"),
}
MIN_SHARE = 0.5  # of the convolutions and matrix products, below which a precision was not followed
_NAMED = 3
_MAX_TEXT = 1000

_NODE = "[ONNX Layer: "
_BETWEEN = "\x1e\x1f"  # put by TensorRT between the nodes of a layer, and between groups of them
# Looked for in this order: "BFloat16" and "UInt8" hold the names of others.
_WORDS = (
    ("fp4", "fp4"),
    ("int4", "int4"),
    ("fp8", "fp8"),
    ("uint8", "uint8"),
    ("int8", "int8"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("fp16", "fp16"),
    ("half", "fp16"),
    ("float16", "fp16"),
    ("int64", "int64"),
    ("int32", "int32"),
    ("bool", "bool"),
    ("fp32", "fp32"),
    ("float", "fp32"),
)
# Kernels are named by the types of their operands: sm80_xmma_gemm_f16f16_f16f32_f32_tn, ..._i8f32_i8i32_f32_...
_KERNEL = re.compile(r"(?:^|_)(e4m3|e5m2|bf16|f16|i8|f32)(?:e4m3|bf16|f16|i8|i32|f32)_")
_OF_KERNEL = {"e4m3": "fp8", "e5m2": "fp8", "bf16": "bf16", "f16": "fp16", "i8": "int8", "f32": "fp32"}


@dataclass(frozen=True)
class NetworkLayer:
    """One layer of the network as it was parsed."""

    name: str
    metadata: str
    kind: str
    """LayerType of TensorRT, such as CONVOLUTION."""
    dtype: str
    """DataType of TensorRT of its output, such as HALF."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the ONNX nodes it stands for."""
        return onnx_nodes(self.metadata) or (self.name,)


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a built engine."""

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...]
    kernel: str
    is_product: bool
    """Whether it holds a convolution or a matrix product."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "name": self.name,
            "type": self.kind,
            "precision": self.precision,
            "product": self.is_product,
            "onnx_nodes": list(self.nodes),
            "kernel": self.kernel,
        }


@dataclass(frozen=True)
class LayerReport:
    """What an engine computes in."""

    layers: "tuple[EngineLayer, ...]"
    products: dict[str, str]
    """ONNX node of each convolution and matrix product -> precision it is computed in."""
    parsed: dict[str, int]
    """Convolutions and matrix products by the type in which TensorRT read them from the file."""
    quantised: int = 0
    """Of these, how many the file has between quantisers."""

    def shares(self) -> dict[str, float]:
        """Return the share of the convolutions and matrix products by precision."""
        counted = Counter(self.products.values())
        return {kind: round(count / len(self.products), 4) for kind, count in counted.most_common()}

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**self.summary(), "layers": [layer.to_json() for layer in self.layers]}

    def summary(self) -> dict[str, Any]:
        """Return the report without its layers."""
        return {
            "products": len(self.products),
            "products_by_precision": self.shares(),
            "products_as_parsed": self.parsed,
            "products_quantised": self.quantised,
            "layers_by_precision": dict(Counter(layer.precision for layer in self.layers).most_common()),
        }


def layer_report(network: Sequence[NetworkLayer], told: Sequence[Any]) -> LayerReport:
    """Join what the inspector said of each layer with the network it was built from."""
    wanted = {node: layer.dtype for layer in network if layer.kind in _PRODUCTS for node in layer.nodes}
    known = {node for layer in network for node in layer.nodes}
    layers = tuple(_layer(item, known, wanted) for item in told)
    products = dict.fromkeys(wanted, UNKNOWN)
    # A node may stand in several layers (a padding made apart, a reformat); the one with a product's kernel tells.
    for layer in sorted(layers, key=_is_kernel_of_product):
        for node in layer.nodes:
            if node in products and layer.precision != UNKNOWN:
                products[node] = layer.precision
    parsed = Counter(dtype_name(dtype) for dtype in wanted.values())
    named = {printable_name(node): kind for node, kind in products.items()}
    return LayerReport(layers, named, dict(parsed), _quantised(network))


def _quantised(network: Sequence[NetworkLayer]) -> int:
    """Return how many products have their weights behind a dequantiser; that of an activation has a quantiser too."""
    kinds = Counter(layer.kind for layer in network)
    return max(kinds["DEQUANTIZE"] - kinds["QUANTIZE"], 0)


def refuse_other_precision(asked: str, report: LayerReport) -> None:
    """Refuse an engine that computes mostly in a wider type than was asked for: it would be slow in silence.

    Of a file with quantisers, only the products between them are asked to be in int8.

    Raises:
        BuildError: less than half of its convolutions and matrix products are in the type asked for.
    """
    narrow = _NARROW.get(asked)
    told = {node: kind for node, kind in report.products.items() if kind != UNKNOWN}
    if narrow is None or not told:
        return
    wide = [node for node, kind in told.items() if kind not in narrow]
    asked_of = min(report.quantised, len(told)) or len(told)
    if len(told) - len(wide) < asked_of * MIN_SHARE:
        raise BuildError(
            f"{asked} was asked for, and the engine computes {len(wide)} of its {len(told)} convolutions and matrix "
            f"products in a wider type ({_counted(told)}), such as {', '.join(wide[:_NAMED])}. It was not kept. Update "
            "TensorRT, or build --precision fp32."
        )


def refuse_parsed_precision(asked: str, network: Sequence[NetworkLayer]) -> None:
    """Refuse, before the long build, a network that TensorRT reads in a wider type than was asked for.

    Raises:
        BuildError: less than half of its convolutions and matrix products are in the type asked for.
    """
    kinds = [dtype_name(layer.dtype) for layer in network if layer.kind in _PRODUCTS]
    wide = [kind for kind in kinds if kind not in _NARROW.get(asked, (kind,))]
    # A quantised product is read as the float type between its quantisers, so int8 shows in the built engine alone.
    if asked in ("fp16", "bf16") and len(wide) > len(kinds) * (1 - MIN_SHARE):
        counted = ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common())
        raise BuildError(
            f"{asked} was asked for, and TensorRT reads the convolutions and matrix products of the file as {counted}. "
            "Update TensorRT, or export the file again."
        )


def onnx_nodes(metadata: str) -> tuple[str, ...]:
    """Return the names of the ONNX nodes in a layer's metadata."""
    parts = metadata.split(_NODE)[1:]
    return tuple(dict.fromkeys(part.strip(_BETWEEN).rstrip(_BETWEEN + " ").removesuffix("]") for part in parts))


def dtype_name(text: str) -> str:
    """Return fp32, fp16, int8 ... for what TensorRT calls a type or a format, or "unknown"."""
    lowered = text.lower()
    return next((name for word, name in _WORDS if word in lowered), UNKNOWN)


def _layer(item: Any, known: set[str], wanted: Mapping[str, str]) -> EngineLayer:
    if not isinstance(item, dict):  # a bare name, or what is no JSON
        name = str(item)[:_MAX_TEXT]
        nodes = _named(name, known)
        return EngineLayer(printable_name(name), "", UNKNOWN, nodes, "", any(node in wanted for node in nodes))
    layer = cast("dict[str, Any]", item)
    name, kernel = str(layer.get("Name", "")), str(layer.get("TacticName", ""))
    nodes = onnx_nodes(str(layer.get("Metadata", ""))) or _named(name, known)
    is_product = any(node in wanted for node in nodes)
    return EngineLayer(
        printable_name(name[:_MAX_TEXT]),
        printable_name(str(layer.get("LayerType", ""))[:_MAX_TEXT]),
        _precision(layer, kernel, is_product=is_product),
        nodes,
        printable_name(kernel[:_MAX_TEXT]),
        is_product,
    )


def _named(name: str, known: set[str]) -> tuple[str, ...]:
    """Return the nodes that a layer's name joins with a plus, as "conv + relu"."""
    return tuple(part for part in name.split(" + ") if part in known)


def _precision(layer: Mapping[str, Any], kernel: str, *, is_product: bool) -> str:
    candidates = _of_product(layer, kernel) if is_product else (*_types(layer, "Outputs"), *_types(layer, "Inputs"))
    return next((kind for kind in candidates if kind != UNKNOWN), UNKNOWN)


def _of_product(layer: Mapping[str, Any], kernel: str) -> Iterator[str]:
    if "tf32" in kernel.lower():
        yield "tf32"
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield dtype_name(str(cast("dict[str, Any]", weights).get("Type", "")))
    found = _KERNEL.search(kernel.lower())
    yield _OF_KERNEL[found.group(1)] if found else UNKNOWN
    yield from _types(layer, "Inputs")
    yield from _types(layer, "Outputs")


def _types(layer: Mapping[str, Any], ends: str) -> Iterator[str]:
    """Return the types of a layer's inputs or outputs; TensorRT 10 writes format and type in one, 11 in two."""
    tensors = layer.get(ends)
    for tensor in cast("list[Any]", tensors) if isinstance(tensors, list) else []:
        if isinstance(tensor, dict):
            values = cast("dict[str, Any]", tensor)
            for key in ("Datatype", "DataType", "Format/Datatype", "Format"):
                if key in values:
                    yield dtype_name(str(values[key]))


def _is_kernel_of_product(layer: EngineLayer) -> bool:
    text = f"{layer.kind} {layer.kernel}".lower()
    return any(word in text for word in ("conv", "gemm", "matmul", "matrix", "fprop", "dgrad"))


def _counted(told: Mapping[str, str]) -> str:
    return ", ".join(f"{count} in {kind}" for kind, count in Counter(told.values()).most_common())
