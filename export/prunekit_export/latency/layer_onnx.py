"""One layer as an ONNX file of its own, at any width: what a latency table is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.graph import INPUT, OPSET, OUTPUT
from prunekit_runtime.timing.kernels import noise

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx
    from torch import Tensor, nn

Kind = Literal["conv", "transposed", "linear"]
Pair = tuple[int, int]
_IR_VERSION = 10  # the newest that goes with opset 20 in every runtime that reads it


@dataclass(frozen=True)
class LayerShape:
    """Everything about a call of a layer that its time depends on, but its widths."""

    kind: Kind
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[int, int, int, int]
    """Top, left, bottom, right, as ONNX orders them."""
    output_padding: Pair
    group: Pair
    """Channels (in, out) of one group of a grouped convolution; (0, 0) for one without groups."""
    batch: int
    height: int
    """Of the input; for a linear layer the number of places that it is applied to, the width being 1."""
    width: int

    @property
    def key(self) -> str:
        """A name for the cache."""
        pads, out = "-".join(map(str, self.padding)), "-".join(map(str, self.output_padding))
        pairs = ("k", self.kernel), ("s", self.stride), ("d", self.dilation), ("g", self.group)
        shape = " ".join(f"{letter}{first}x{second}" for letter, (first, second) in pairs)
        return f"{self.kind} {shape} p{pads} o{out} b{self.batch} {self.height}x{self.width}"

    @property
    def grouped(self) -> bool:
        """Whether only whole groups go."""
        return self.group != (0, 0)

    @property
    def output_size(self) -> Pair:
        """Height and width of the output, by the arithmetic of convolutions (ONNX operators Conv, ConvTranspose)."""
        top, left, bottom, right = self.padding
        sides = ((self.height, top + bottom), (self.width, left + right))
        sizes: list[int] = []
        for axis, (size, pads) in enumerate(sides):
            reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            if self.kind == "transposed":
                sizes.append((size - 1) * self.stride[axis] - pads + reach + self.output_padding[axis])
            else:
                sizes.append((size + pads - reach) // self.stride[axis] + 1)
        return sizes[0], sizes[1]

    def input_shape(self, channels_in: int) -> tuple[int, int, int, int]:
        """Shape of the file's input."""
        if self.kind == "linear":
            return (self.batch, 1, self.height, channels_in)
        return (self.batch, channels_in, self.height, self.width)


def shape_of_call(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, inputs: Tensor) -> LayerShape:
    """Return the shape of `module` applied to `inputs`.

    Raises:
        ExportError: the input is no batch of maps.
    """
    from torch import nn

    if isinstance(module, nn.Linear):
        places = inputs.numel() // module.in_features
        return LayerShape("linear", (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (0, 0), (0, 0), 1, places, 1)
    if inputs.dim() != 4:
        raise ExportError(f"A convolution was given {tuple(inputs.shape)}, not a batch of maps, so it cannot be timed.")
    transposed = isinstance(module, nn.ConvTranspose2d)
    per_group = (module.in_channels // module.groups, module.out_channels // module.groups)
    return LayerShape(
        kind="transposed" if transposed else "conv",
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        dilation=_pair(module.dilation),
        padding=_padding(module),
        output_padding=_pair(module.output_padding) if transposed else (0, 0),
        group=per_group if module.groups > 1 else (0, 0),
        batch=inputs.shape[0],
        height=inputs.shape[2],
        width=inputs.shape[3],
    )


def layer_model(layer: LayerShape, channels_in: int, channels_out: int) -> onnx.ModelProto:
    """Return a model of the one layer, its bias and a ReLU, which runtimes compute in the layer's kernel.

    Raises:
        ExportError: the widths are no whole number of groups.
    """
    from onnx import TensorProto, helper, numpy_helper

    weight, groups = _weight(layer, channels_in, channels_out)
    if layer.kind == "linear":
        nodes = [helper.make_node("MatMul", [INPUT, "weight"], ["product"], name="layer")]
        nodes.append(helper.make_node("Add", ["product", "bias"], ["summed"], name="bias"))
    else:
        nodes = [_convolution(layer, groups)]
    nodes.append(helper.make_node("Relu", ["summed"], [OUTPUT], name="relu"))
    tensors = {"weight": weight, "bias": np.zeros(channels_out, dtype=np.float32)}
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, layer.input_shape(channels_in))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)


def _convolution(layer: LayerShape, groups: int) -> onnx.NodeProto:
    from onnx import helper

    attributes: dict[str, Any] = {
        "kernel_shape": layer.kernel,
        "strides": layer.stride,
        "dilations": layer.dilation,
        "pads": layer.padding,
        "group": groups,
    }
    if layer.kind == "transposed":
        attributes["output_padding"] = layer.output_padding
    operator = "ConvTranspose" if layer.kind == "transposed" else "Conv"
    return helper.make_node(operator, [INPUT, "weight", "bias"], ["summed"], name="layer", **attributes)


def _weight(layer: LayerShape, channels_in: int, channels_out: int) -> tuple[npt.NDArray[np.float32], int]:
    """Return noise in the shape of the weight, and the number of groups."""
    per_in, per_out = layer.group if layer.grouped else (channels_in, channels_out)
    groups = channels_in // per_in
    if (groups * per_in, groups * per_out) != (channels_in, channels_out):
        raise ExportError(
            f"{channels_in} channels in and {channels_out} out are no whole number of groups of {per_in} and {per_out}."
        )
    if layer.kind == "linear":
        return noise((channels_in, channels_out)), 1
    leading = (channels_in, per_out) if layer.kind == "transposed" else (channels_out, per_in)
    return noise((*leading, *layer.kernel)), groups


def _padding(module: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int, int, int]:
    if module.padding == "valid" or module.padding_mode != "zeros":
        return (0, 0, 0, 0)  # other modes pad in an op of their own, before the layer's
    if module.padding == "same":
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        top, left = spans[0] // 2, spans[1] // 2  # torch puts the odd one at the end
        return (top, left, spans[0] - top, spans[1] - left)
    top, left = _pair(module.padding)
    return (top, left, top, left)


def _pair(values: object) -> Pair:
    first, second = tuple(values) if isinstance(values, tuple | list) else (values, values)
    return int(first), int(second)  # pyright: ignore[reportArgumentType]  torch types these as str | tuple
