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
    stride: int = 1
    """To which the network's file pads images by itself."""
    name: str = "pictures"

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return the model from pictures to labels.

        Raises:
            ExportError: the logits have more classes than labels can name, the contract and the network disagree, or
                the network has tensors that are called as the new ends.
        """
        import onnx

        wrapped = onnx.ModelProto()
        wrapped.CopyFrom(model)
        graph = wrapped.graph
        images, logits = graph.input[0], graph.output[0]
        self._check(images, logits)
        writer = _Writer(_names(graph), ends=self._ends)
        shape = self._prepare(writer, images.name)
        before = list(writer.nodes)
        writer.nodes.clear()
        self._label(writer, logits.name, shape)
        nodes = [*before, *graph.node, *writer.nodes]
        batch = images.type.tensor_type.shape.dim[0]
        graph.ClearField("node")
        graph.node.extend(nodes)
        graph.initializer.extend(writer.constants)
        self._declare(graph, batch.dim_param or batch.dim_value)
        return PassResult(wrapped, True)

    @property
    def _ends(self) -> tuple[str, ...]:
        return (PICTURES, LABELS, CONFIDENCE) if self.confidence else (PICTURES, LABELS)

    @property
    def _target(self) -> tuple[int, int] | None:
        """Height and width that pictures are resized to; None where they keep theirs."""
        size = (self.contract.height, self.contract.width)
        return None if not self.contract.height or size == self.picture else size

    @property
    def _unpadded(self) -> tuple[int, int] | None:
        """Height and width before padding; None where they follow the picture."""
        return (self.contract.height, self.contract.width) if self.contract.height else self.picture

    @property
    def _pads_any(self) -> bool:
        """Whether pictures of open size are padded here: the network's own padding may do."""
        return self._unpadded is None and self.stride % self.contract.pad_multiple != 0

    def _check(self, images: onnx.ValueInfoProto, logits: onnx.ValueInfoProto) -> None:
        from prunekit_export.graph.onnx_export import value_dims

        _, _, *size = value_dims(images)
        classes = value_dims(logits)[1]
        fixed = [side for side in size if isinstance(side, int)]
        expected = self.contract.network_size(*self._unpadded) if self._unpadded else "any size"
        if fixed and tuple(fixed) != expected:
            got = expected if isinstance(expected, str) else f"{expected[0]} x {expected[1]}"
            raise ExportError(
                f"The network takes images of {fixed[0]} x {fixed[-1]}, and the preprocessing gives {got}. "
                "Export with a contract of that size."
            )
        if not isinstance(classes, int) or not 1 < classes <= _MAX_CLASSES:
            raise ExportError(f"Labels are uint8 and 255 is taken, so 2 to {_MAX_CLASSES} classes; got {classes}.")

    def _prepare(self, writer: _Writer, images: str) -> str:
        """Write what makes `images` of pictures; return the name of the pictures' shape (N, 3, H, W), if any."""
        contract = self.contract
        value = writer.add("Cast", [PICTURES], "picture_values", to=1)  # float32
        value = writer.add("Transpose", [value], "picture_planes", perm=[0, 3, 1, 2])
        needed = self._target is not None or self._pads_any
        shape = writer.add("Shape", [value], "picture_shape") if needed else ""
        if contract.channel_order == "bgr":
            value = writer.add("Gather", [value, writer.integers("picture_order", [2, 1, 0])], "picture_bgr", axis=1)
        if self._target is not None:
            value = writer.resize(value, shape, writer.integers("picture_size", self._target), "picture_resized")
        value = writer.add("Mul", [value, writer.number("picture_scale", contract.scale)], "picture_scaled")
        value = writer.add("Sub", [value, writer.planes("picture_mean", contract.mean)], "picture_centred")
        value = writer.add("Div", [value, writer.planes("picture_std", contract.std)], "picture_normal")
        amounts = self._amounts(writer, shape)
        if amounts is not None:
            value = writer.add("Pad", [value, amounts], "picture_padded", mode="constant")
        writer.rename_(value, images)
        return shape

    def _amounts(self, writer: _Writer, shape: str) -> str | None:
        """Return what is padded, before and after each axis; None where nothing is."""
        if self._unpadded is not None:
            padded = self.contract.network_size(*self._unpadded)
            rows, columns = (new - old for new, old in zip(padded, self._unpadded, strict=True))
            return writer.integers("picture_pads", [0, 0, 0, 0, 0, 0, rows, columns]) if rows or columns else None
        return writer.pads_to(shape, self.contract.pad_multiple) if self._pads_any else None

    def _label(self, writer: _Writer, logits: str, shape: str) -> None:
        value = self._restored(writer, logits, shape)
        best = writer.add("ArgMax", [value], "best_class", axis=1, keepdims=0, select_last_index=0)
        writer.end("Cast", [best], LABELS, to=2)  # uint8
        if self.confidence:
            # 1 / sum(exp(value - largest)) is the softmax of the largest; for Softmax itself ONNX Runtime transposes.
            classes = writer.integers("class_axis", [1])
            largest = writer.add("ReduceMax", [value, classes], "largest_logit", keepdims=1)
            powers = writer.add("Exp", [writer.add("Sub", [value, largest], "logits_below")], "class_powers")
            total = writer.add("ReduceSum", [powers, classes], "powers_summed", keepdims=0)
            share = writer.add("Div", [writer.number("byte_scale", 255.0), total], "largest_share")
            writer.end("Cast", [writer.add("Round", [share], "share_rounded")], CONFIDENCE, to=2)

    def _restored(self, writer: _Writer, logits: str, shape: str) -> str:
        """Return the logits without padding and at the pictures' size."""
        value = logits
        if self._pads_any or (self._unpadded and self.contract.network_size(*self._unpadded) != self._unpadded):
            ends = writer.integers("logit_ends", self._unpadded) if self._unpadded else writer.sides(shape)
            starts, axes = writer.integers("logit_starts", [0, 0]), writer.integers("logit_axes", [2, 3])
            value = writer.add("Slice", [value, starts, ends, axes], "logits_cropped")
        if self._target is not None:
            own = writer.add("Shape", [value], "logit_shape")
            value = writer.resize(value, own, writer.sides(shape), "logits_resized")
        return value

    def _declare(self, graph: onnx.GraphProto, batch: int | str) -> None:
        """Give the graph its new ends."""
        from onnx.helper import make_tensor_value_info

        size: Sequence[int | str] = self.picture or OPEN_PICTURE
        graph.ClearField("input")
        graph.ClearField("output")
        graph.input.append(make_tensor_value_info(PICTURES, 2, [batch, *size, 3]))
        for name in self._ends[1:]:
            graph.output.append(make_tensor_value_info(name, 2, [batch, *size]))


def restored_logits(model: onnx.ModelProto) -> str:
    """Return the name of the logits at the pictures' size in a model that this pass made: what ArgMax chooses by."""
    makers = {output: node for node in model.graph.node for output in node.output}
    best = makers[makers[LABELS].input[0]]
    return best.input[0]


def _names(graph: onnx.GraphProto) -> set[str]:
    """Return every name that the graph uses, those of its nodes included."""
    values = {name for node in graph.node for name in (*node.input, *node.output, node.name)}
    return values | {each.name for each in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)}


class _Writer:
    """Nodes and constants in the order they are asked for; names that the network has taken get a line behind."""

    def __init__(self, taken: set[str], ends: Sequence[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        both = sorted(taken & set(ends))
        if both:
            raise ExportError(
                f"The network has tensors called {', '.join(both)}, as the graph from pictures to labels calls its "
                "ends. Rename them in the network, or export without that graph."
            )
        self._taken = taken | set(ends)
        self._sides = ""

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node that is called as its output, and return that."""
        return self._add(operator, inputs, self._fresh(output), attributes)

    def end(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add the node that makes an output of the graph."""
        return self._add(operator, inputs, output, attributes)

    def rename_(self, old: str, new: str) -> None:
        """Let the last node, which made `old`, make `new`, which the network reads."""
        node = self.nodes[-1]
        assert list(node.output) == [old]
        node.output[:] = [new]

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self._constant(name, np.array(values, dtype=np.int64))

    def number(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, dtype=np.float32))

    def planes(self, name: str, values: Sequence[float]) -> str:
        return self._constant(name, np.array(values, dtype=np.float32).reshape(1, 3, 1, 1))

    def sides(self, shape: str) -> str:
        """Return H and W of the pictures' shape (N, 3, H, W)."""
        if not self._sides:
            starts, ends = self.integers("spatial_start", [2]), self.integers("spatial_end", [4])
            self._sides = self.add("Slice", [shape, starts, ends], "picture_sides")
        return self._sides

    def pads_to(self, shape: str, multiple: int) -> str:
        """Return what pads any shape (N, 3, H, W) to a multiple: integers that every parser folds into shapes."""
        sides, step = self.sides(shape), self.integers("pad_multiple", [multiple, multiple])
        raised = self.add("Add", [sides, self.integers("multiple_less_one", [multiple - 1] * 2)], "sides_raised")
        padded = self.add("Mul", [self.add("Div", [raised, step], "sides_counted"), step], "sides_padded")
        amounts = self.add("Sub", [padded, sides], "sides_missing")
        return self.add("Concat", [self.integers("pads_none", [0] * 6), amounts], "picture_pads", axis=0)

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

        fresh = self._fresh(name)
        self.constants.append(from_array(value, fresh))
        return fresh

    def _add(self, operator: str, inputs: Sequence[str], output: str, attributes: dict[str, Any]) -> str:
        from onnx.helper import make_node

        self.nodes.append(make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name
