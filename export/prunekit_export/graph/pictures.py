"""Put preprocessing and postprocessing into the graph: uint8 pictures in, the class of each of their pixels out.

The steps and their order are those of the preprocessing contract, `prunekit_runtime.preprocessing`:

1. `pictures`, uint8 (N, H, W, 3), RGB, become float32 before they are turned to (N, 3, H, W): TensorRT transposes no
   uint8.
2. Resized to the contract's size (bilinear, half-pixel centres, no antialias), scaled, normalised, padded with zeros.
3. The network, in whatever precision its file has; its ends are float32, so no label shifts by rounded pixels.
4. Logits are cropped and resized to H x W; ArgMax takes the lowest class among equals, as numpy does.

`labels` are uint8 (N, H, W). H and W are fixed, or open where no size is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.graph.pass_base import PassResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from prunekit_runtime.preprocessing import Preprocessing

PICTURES = "pictures"
LABELS = "labels"
CONFIDENCE = "confidence"
OPEN_PICTURE = ("picture_height", "picture_width")
_MAX_CLASSES = 255  # uint8, and 255 stands for ignored pixels


@dataclass(frozen=True)
class PicturePass:
    """Wrap a network, float32 `images` to float32 `logits`, in all that lies between a picture and its labels."""

    contract: Preprocessing
    picture: tuple[int, int] | None = None
    """Height and width of the pictures [px]; None leaves them open."""
    confidence: bool = False
    """Also give the softmax share of the winning class, uint8 (N, H, W): 255 is 1."""
    name: str = "pictures"

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return the model from pictures to labels.

        Raises:
            ExportError: the logits have more classes than labels can name, or the contract and the network disagree.
        """
        import onnx

        wrapped = onnx.ModelProto()
        wrapped.CopyFrom(model)
        graph = wrapped.graph
        images, logits = graph.input[0], graph.output[0]
        self._check(images, logits)
        writer = _Writer()
        self._prepare(writer, images.name)
        before = list(writer.nodes)
        writer.nodes.clear()
        self._label(writer, logits.name)
        nodes = [*before, *graph.node, *writer.nodes]
        batch = images.type.tensor_type.shape.dim[0]
        graph.ClearField("node")
        graph.node.extend(nodes)
        graph.initializer.extend(writer.constants)
        self._declare(graph, batch.dim_param or batch.dim_value)
        return PassResult(wrapped, True)

    @property
    def _resized(self) -> tuple[int, int] | None:
        """Height and width that pictures are resized to; None where they keep theirs."""
        size = (self.contract.height, self.contract.width)
        return None if not self.contract.height or size == self.picture else size

    @property
    def _padding(self) -> tuple[int, int]:
        """Rows below and columns at the right; a file of open size pads inside."""
        if not self.contract.height:
            return 0, 0
        rows, columns = self.contract.network_size(self.contract.height, self.contract.width)
        return rows - self.contract.height, columns - self.contract.width

    def _check(self, images: onnx.ValueInfoProto, logits: onnx.ValueInfoProto) -> None:
        from prunekit_export.graph.onnx_export import value_dims

        _, _, *size = value_dims(images)
        classes = value_dims(logits)[1]
        fixed = [side for side in size if isinstance(side, int)]
        expected = self.contract.network_size(self.contract.height, self.contract.width)
        if fixed and tuple(fixed) != expected:
            raise ExportError(
                f"The network takes images of {fixed[0]} x {fixed[-1]}, and the preprocessing gives {expected[0]} x "
                f"{expected[1]}. Export with a contract of that size."
            )
        if not isinstance(classes, int) or not 1 < classes <= _MAX_CLASSES:
            raise ExportError(f"Labels are uint8 and 255 is taken, so 2 to {_MAX_CLASSES} classes; got {classes}.")

    def _prepare(self, writer: _Writer, images: str) -> None:
        contract = self.contract
        value = writer.add("Cast", [PICTURES], "picture_values", to=1)  # float32
        value = writer.add("Transpose", [value], "picture_planes", perm=[0, 3, 1, 2])
        writer.add("Shape", [value], "picture_shape")
        if contract.channel_order == "bgr":
            value = writer.add("Gather", [value, writer.integers("picture_order", [2, 1, 0])], "picture_bgr", axis=1)
        if self._resized is not None:
            value = writer.resize(value, "picture_shape", writer.integers("picture_size", self._resized), "resized")
        value = writer.add("Mul", [value, writer.number("picture_scale", contract.scale)], "picture_scaled")
        value = writer.add("Sub", [value, writer.planes("picture_mean", contract.mean)], "picture_centred")
        rows, columns = self._padding
        padded = bool(rows or columns)
        value = writer.add(
            "Div", [value, writer.planes("picture_std", contract.std)], "picture_normal" if padded else images
        )
        if padded:
            amounts = writer.integers("picture_pads", [0, 0, 0, 0, 0, 0, rows, columns])
            writer.add("Pad", [value, amounts], images, mode="constant")

    def _label(self, writer: _Writer, logits: str) -> None:
        value = logits
        if any(self._padding):
            ends = writer.integers("logit_ends", [self.contract.height, self.contract.width])
            starts, axes = writer.integers("logit_starts", [0, 0]), writer.integers("logit_axes", [2, 3])
            value = writer.add("Slice", [value, starts, ends, axes], "logits_cropped")
        if self._resized is not None:
            spatial = writer.picture_size("picture_shape")
            writer.add("Shape", [value], "logit_shape")
            value = writer.resize(value, "logit_shape", spatial, "logits_resized")
        best = writer.add("ArgMax", [value], "best_class", axis=1, keepdims=0, select_last_index=0)
        writer.add("Cast", [best], LABELS, to=2)  # uint8
        if self.confidence:
            shares = writer.add("Softmax", [value], "shares", axis=1)
            largest = writer.add("ReduceMax", [shares, writer.integers("class_axis", [1])], "largest_share", keepdims=0)
            scaled = writer.add("Mul", [largest, writer.number("byte_scale", 255.0)], "share_scaled")
            writer.add("Cast", [writer.add("Round", [scaled], "share_rounded")], CONFIDENCE, to=2)

    def _declare(self, graph: onnx.GraphProto, batch: int | str) -> None:
        """Give the graph its new ends."""
        from onnx.helper import make_tensor_value_info

        size: Sequence[int | str] = self.picture or OPEN_PICTURE
        graph.ClearField("input")
        graph.ClearField("output")
        graph.input.append(make_tensor_value_info(PICTURES, 2, [batch, *size, 3]))
        for name in (LABELS, CONFIDENCE) if self.confidence else (LABELS,):
            graph.output.append(make_tensor_value_info(name, 2, [batch, *size]))


class _Writer:
    """Nodes and constants in the order they are asked for."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node that is called as its output, and return that."""
        from onnx.helper import make_node

        self.nodes.append(make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self._constant(name, np.array(values, dtype=np.int64))

    def number(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, dtype=np.float32))

    def planes(self, name: str, values: Sequence[float]) -> str:
        return self._constant(name, np.array(values, dtype=np.float32).reshape(1, 3, 1, 1))

    def picture_size(self, shape: str) -> str:
        """Return H and W of a shape (N, C, H, W)."""
        starts, ends = self.integers("spatial_start", [2]), self.integers("spatial_end", [4])
        return self.add("Slice", [shape, starts, ends], "picture_sides")

    def resize(self, value: str, shape: str, size: str, output: str) -> str:
        """Resize (N, C, ., .) of this shape to a size: bilinear, half-pixel centres, no antialias."""
        starts, ends = self.integers(f"{output}_start", [0]), self.integers(f"{output}_end", [2])
        kept = self.add("Slice", [shape, starts, ends], f"{output}_kept")
        sizes = self.add("Concat", [kept, size], f"{output}_sizes", axis=0)
        return self.add(
            "Resize",
            [value, "", "", sizes],
            output,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
            antialias=0,
        )

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        from onnx.numpy_helper import from_array

        self.constants.append(from_array(value, name))
        return name
