"""Give any segmentation file our ends: float32 `images` (N, 3, h, w) to float32 `logits` (N, K, h, w).

What may differ, and what is done about it:

1. Images in the order (N, h, w, 3) are transposed; uint8 images are rounded and cast, so that the file's own
   preprocessing sees whole pixel values.
2. Of several outputs one is taken, by name; what only the others need is dropped.
3. A mask that an ArgMax over classes makes is replaced by what the ArgMax reads.
4. Logits in the order (N, h, w, K) are transposed, smaller ones resized to the images' size (bilinear, half-pixel
   centres), as the contract of a segmenter asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.foreign.opening import at_our_opset, first_line
from prunekit_export.graph import INPUT, OUTPUT, exported
from prunekit_export.precision import open_session
from prunekit_runtime.near import did_you_mean
from prunekit_runtime.running.runner import check_memory
from prunekit_runtime.spelling import spelled
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

_PASSED = frozenset({"Cast", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Flatten"})  # between ArgMax and a mask
_Order = tuple[int, int, int, int]
_PLANES: _Order = (0, 1, 2, 3)
_IMAGE_TYPES = (np.dtype(np.float32), np.dtype(np.uint8))


@dataclass(frozen=True)
class Adopted:
    """A file with our ends."""

    model: onnx.ModelProto
    steps: tuple[str, ...]
    """What was changed, in words."""
    image: str
    result: str
    """Of the source: its input, and the output that was taken."""
    takes_bytes: bool
    """Whether the source takes uint8 images."""
    channels_last: bool
    """Whether the source takes images (N, h, w, 3)."""
    logits_last: bool
    """Whether the logits of the source are (N, h, w, K)."""


def adopt(model: onnx.ModelProto, *, height: int, width: int, output: str | None = None) -> Adopted:
    """Return the model with our ends.

    Args:
        model: of `read_foreign`.
        height: of an image [px], for a file of any size; one of a fixed size has to have this.
        width: as the height.
        output: name of the logits or the mask; None takes the only output.

    Raises:
        ExportError: no input is an image, the output is not named or is none of segmentation, or onnx cannot convert
            the file.
    """
    import onnx_graphsurgeon as gs

    source = at_our_opset(model)
    graph: Any = gs.import_onnx(source)
    image, result = _image(graph), _result(graph, output)
    names = image.name, result.name
    sides = _sides(image, height, width)
    last, is_bytes = _is_last(image), image.dtype == np.uint8
    steps: list[str] = []
    logits = _before_argmax(result, steps)
    graph.outputs = [logits]
    graph.cleanup(remove_unused_graph_inputs=True)
    others = [printable_name(tensor.name) for tensor in graph.inputs if tensor is not image]
    if others:
        raise ExportUsageError(f"The file also needs {', '.join(others)}. Fix those inputs to constants first.")
    _clear_names_(graph)
    _add_input_(graph, image, sides, steps)
    shape = _shape(exported(graph, source), *(side if isinstance(side, int) else own for side, own in sides))
    order = _order(shape, [size for _, size in sides])
    _add_output_(graph, logits, shape, order, sides, steps)
    return Adopted(exported(graph, source), tuple(steps), *names, is_bytes, last, order != _PLANES)


def image_size(model: onnx.ModelProto) -> tuple[int, int] | None:
    """Return height and width [px] that the file fixes; None where one of them is open.

    Raises:
        ExportError: no input is an image.
    """
    import onnx_graphsurgeon as gs

    image = _image(gs.import_onnx(model))
    height, width = (image.shape[axis] for axis in ((1, 2) if _is_last(image) else (2, 3)))
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _image(graph: Any) -> Any:
    found = [tensor for tensor in graph.inputs if _is_image(tensor)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"{printable_name(each.name)} {each.dtype} {each.shape}" for each in graph.inputs)
    raise ExportUsageError(
        f"One input has to be an image, float32 or uint8, (N, 3, h, w) or (N, h, w, 3); the file has {shown or 'none'}."
    )


def _is_image(tensor: Any) -> bool:
    return (
        tensor.dtype in _IMAGE_TYPES
        and tensor.shape is not None
        and len(tensor.shape) == 4
        and 3 in (tensor.shape[1], tensor.shape[3])
    )


def _is_last(image: Any) -> bool:
    return image.shape[1] != 3


def _result(graph: Any, name: str | None) -> Any:
    names = [tensor.name for tensor in graph.outputs]
    if name is None and len(names) == 1:
        return graph.outputs[0]
    if name not in names:
        shown = ", ".join(map(printable_name, names))
        got = "has several outputs" if name is None else f"has no output {name}"
        near = "" if name is None else did_you_mean(name, list(map(printable_name, names)))
        raise ExportUsageError(
            f"The file {got}. Name the logits or the mask by {spelled('--output', 'output')}: {shown}.{near}"
        )
    return graph.outputs[names.index(name)]


def _sides(image: Any, height: int, width: int) -> list[tuple[int | str, int]]:
    """Return (dim of the file, size to try) of height and width."""
    axes, sizes, found = (1, 2) if _is_last(image) else (2, 3), (height, width), list[tuple["int | str", int]]()
    for axis, size in zip(axes, sizes, strict=True):
        dim = image.shape[axis]
        if isinstance(dim, int) and dim != size:
            raise ExportUsageError(f"The file takes images of one size, and {height} x {width} is another.")
        found.append((dim if isinstance(dim, int) else ("height" if axis == axes[0] else "width"), size))
    return found


def _before_argmax(result: Any, steps: list[str]) -> Any:
    """Return the logits: the result itself, or what the ArgMax reads that makes a mask of whole numbers."""
    if result.dtype == np.float32:
        return result
    node = result.inputs[0] if result.inputs else None
    while node is not None and node.op in _PASSED:
        node = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    if node is None or node.op != "ArgMax":
        raise ExportError(
            f"{printable_name(result.name)} is {result.dtype} and no ArgMax over classes makes it. Name the logits, "
            f"float32, by {spelled('--output', 'output')}."
        )
    steps.append(f"the mask {printable_name(result.name)} is replaced by the logits that its ArgMax reads")
    return node.inputs[0]


def _clear_names_(graph: Any) -> None:
    """Free our names where the file has tensors that are called so."""
    tensors = graph.tensors()
    for name in (INPUT, OUTPUT):
        if name in tensors:
            fresh = f"{name}_source"
            while fresh in tensors:
                fresh += "_"
            tensors[name].name = fresh


def _add_input_(graph: Any, image: Any, sides: Sequence[tuple[int | str, int]], steps: list[str]) -> None:
    import onnx_graphsurgeon as gs

    batch = image.shape[0] if isinstance(image.shape[0], int) else "batch"
    value = gs.Variable(INPUT, np.float32, [batch, 3, *(dim for dim, _ in sides)])
    graph.inputs = [value]
    chain: list[tuple[str, dict[str, Any]]] = []
    if image.dtype == np.uint8:
        chain += [("Round", {}), ("Clip", {})]
        # TensorRT computes with no uint8: whole numbers in float32 do as well where the file casts them anyway.
        if not _as_float32_(image):
            chain.append(("Cast", {"to": 2}))
        steps.append("images are rounded to uint8, as the file takes those")
    if _is_last(image):
        chain.insert(0, ("Transpose", {"perm": [0, 2, 3, 1]}))
        steps.append("images are transposed to (N, h, w, 3)")
    for place, (operator, attributes) in enumerate(chain or [("Identity", {})]):
        name = f"image_end_{place}"
        target = image if place == len(chain or [0]) - 1 else gs.Variable(name, np.float32)
        limits = [gs.Constant(f"{name}_{limit:.0f}", np.array(limit, np.float32)) for limit in (0.0, 255.0)]
        inputs: list[Any] = [value, *limits] if operator == "Clip" else [value]
        graph.nodes.append(gs.Node(operator, name, attributes, inputs, [target]))
        value = target


def _as_float32_(image: Any) -> bool:
    """Let the image's pixels come in float32 where nothing but Transposes lies before the file's own Casts."""
    moved, found = [image], [image]
    while found:
        for node in found.pop().outputs:
            if node.op == "Transpose":
                moved.append(node.outputs[0])
                found.append(node.outputs[0])
            elif node.op != "Cast":
                return False
    for tensor in moved:
        tensor.dtype = np.float32
    return True


def _shape(model: onnx.ModelProto, height: int, width: int) -> tuple[int, ...]:
    """Return the shape of the raw logits for one image, or as many as the file fixes."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    size = (dims[0].dim_value or 1, 3, height, width)
    check_memory(size, "The file's image")
    images = np.zeros(size, np.float32)
    return run_once(model, {INPUT: images}, None).shape


def run_once(model: onnx.ModelProto, feed: dict[str, np.ndarray[Any, Any]], output: str | None) -> Any:
    """Run a model in ONNX Runtime as written; return an output by name, or the first.

    Raises:
        ExportError: it does not load or run.
    """
    try:
        session = open_session(model, optimise=False)
        return session.run(None if output is None else [output], feed)[0]
    except Exception as error:  # ONNX Runtime's errors share no base class below Exception
        raise ExportError(f"ONNX Runtime does not run the file: {first_line(error)}") from error


def _add_output_(
    graph: Any,
    logits: Any,
    shape: tuple[int, ...],
    order: _Order,
    sides: Sequence[tuple[int | str, int]],
    steps: list[str],
) -> None:
    import onnx_graphsurgeon as gs

    batch, classes = graph.inputs[0].shape[0], shape[order[1]]
    end = gs.Variable(OUTPUT, np.float32, [batch, classes, *(dim for dim, _ in sides)])
    value = logits
    if order != _PLANES:
        steps.append("logits are transposed to (N, K, h, w)")
        planes = gs.Variable("logits_planes", np.float32)
        graph.nodes.append(gs.Node("Transpose", "logits_planes", {"perm": list(order)}, [value], [planes]))
        value = planes
    if tuple(shape[axis] for axis in order[2:]) != tuple(size for _, size in sides):
        steps.append(f"logits of {shape[order[2]]} x {shape[order[3]]} are resized to the images' size")
        _resize_(graph, value, end)
    else:
        graph.nodes.append(gs.Node("Identity", "logits_end", {}, [value], [end]))
    graph.outputs = [end]


def _resize_(graph: Any, value: Any, end: Any) -> None:
    import onnx_graphsurgeon as gs

    def constant(name: str, number: int) -> Any:
        return gs.Constant(name, np.array([number], np.int64))

    kept, sides, sizes = (gs.Variable(f"logits_{name}", np.int64) for name in ("kept", "sides", "sizes"))
    for source, target, start, stop in ((value, kept, 0, 2), (graph.inputs[0], sides, 2, 4)):
        shape = gs.Variable(f"{target.name}_shape", np.int64)
        graph.nodes.append(gs.Node("Shape", shape.name, {}, [source], [shape]))
        ends = [constant(f"{target.name}_start", start), constant(f"{target.name}_stop", stop)]
        graph.nodes.append(gs.Node("Slice", target.name, {}, [shape, *ends], [target]))
    graph.nodes.append(gs.Node("Concat", sizes.name, {"axis": 0}, [kept, sides], [sizes]))
    none = gs.Variable.empty()
    attributes: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    graph.nodes.append(gs.Node("Resize", "logits_resized", attributes, [value, none, none, sizes], [end]))


def _order(shape: tuple[int, ...], sides: list[int]) -> _Order:
    """Return the axes of N, K, h, w: the classes are the axis that has nothing to do with the image's size."""
    height, width = sides
    for order in (_PLANES, (0, 3, 1, 2)):
        if len(shape) == 4 and shape[order[1]] > 1 and _fits(shape, order, height, width):
            return order
    raise ExportError(
        f"The output is {tuple(shape)} for images of {height} x {width}: no logits (N, K, h, w) or (N, h, w, K) of two "
        f"or more classes. Name another one by {spelled('--output', 'output')}."
    )


def _fits(shape: tuple[int, ...], order: _Order, height: int, width: int) -> bool:
    rows, columns = shape[order[2]], shape[order[3]]
    # Strides round up, so that both sides may be a little off the image's ratio.
    down = max(round(height / rows), 1), max(round(width / columns), 1)
    return down[0] == down[1] and rows <= height and columns <= width and min(rows, columns) > 0
