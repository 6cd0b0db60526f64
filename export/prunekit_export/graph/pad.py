"""Let a model of open size take any size: pad the images to multiples of its stride, crop the logits.

The rule of the Segmenter and of the preprocessing contract: zeros below and right, cropped there again.

1. `images` keeps its name; what read it reads the padded form.
2. The amounts are integer arithmetic on the image's shape (Add, Div, Mul, Sub), which every parser folds into shapes;
   Mod is not among what TensorRT computes on shapes.
3. The model must have been traced at multiples of the stride, so that nothing inside pads again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunekit_export.graph.pass_base import PassResult

if TYPE_CHECKING:
    import onnx

_PADDED = "padded_images"
_UNCROPPED = "uncropped_logits"


@dataclass(frozen=True)
class PadPass:
    """Pad the one input to multiples of `stride` at the bottom and the right, and crop the one output."""

    stride: int
    name: str = "pad"

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return the model for any height and width; a stride of 1 needs nothing."""
        import onnx

        if self.stride == 1:
            return PassResult(model, False)
        padded = onnx.ModelProto()
        padded.CopyFrom(model)
        graph = padded.graph
        images, logits = graph.input[0].name, graph.output[0].name
        _rename_(graph, {images: _PADDED, logits: _UNCROPPED})
        nodes = [*_padding(images), *graph.node, _cropping(logits)]
        graph.ClearField("node")
        graph.node.extend(nodes)
        graph.initializer.extend(_constants(self.stride))
        return PassResult(padded, True)


def _rename_(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _constants(stride: int) -> list[onnx.TensorProto]:
    import onnx

    values = {
        "pad_stride": [stride, stride],
        "pad_rest": [stride - 1, stride - 1],
        "pad_none": [0] * 6,  # before N, C, h, w and after N, C
        "crop_starts": [0, 0],
        "crop_axes": [2, 3],
    }
    return [onnx.numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in values.items()]


def _padding(images: str) -> list[onnx.NodeProto]:
    from onnx.helper import make_node

    steps = (
        ("Add", ["image_size", "pad_rest"], "pad_raised"),
        ("Div", ["pad_raised", "pad_stride"], "pad_strides"),
        ("Mul", ["pad_strides", "pad_stride"], "pad_size"),
        ("Sub", ["pad_size", "image_size"], "pad_amount"),
    )
    return [
        make_node("Shape", [images], ["image_size"], name="image_size", start=2),
        *(make_node(operator, inputs, [output], name=output) for operator, inputs, output in steps),
        make_node("Concat", ["pad_none", "pad_amount"], ["pads"], name="pads", axis=0),
        make_node("Pad", [images, "pads"], [_PADDED], name="pad", mode="constant"),
    ]


def _cropping(logits: str) -> onnx.NodeProto:
    from onnx.helper import make_node

    return make_node("Slice", [_UNCROPPED, "crop_starts", "image_size", "crop_axes"], [logits], name="crop")
