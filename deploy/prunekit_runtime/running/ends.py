"""What a model file takes and gives: prepared images to logits, or pictures to labels with all else inside the graph.

Shape suffixes: N images, K classes, h, w the network's size, H, W the picture's size.
"""

import dataclasses
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from prunekit_runtime.errors import EndsError, RunnerError, RunnerUsageError
from prunekit_runtime.running.runner import Graph, Shape, check_images, show_shape
from prunekit_runtime.spelling import spelled

GIVES: dict[str, str] = {
    "logits": "prepared images, float32 (N, 3, h, w), and gives logits",
    "labels": "pictures, uint8 (N, H, W, 3), and gives labels",
}
_DTYPES: dict[str, Any] = {"float32": np.float32, "uint8": np.uint8}
# Input's and first output's type and axes.
_KINDS: dict[tuple[str, int, str, int], Graph] = {
    ("float32", 4, "float32", 4): "logits",
    ("uint8", 4, "uint8", 3): "labels",
}
_MOST_OUTPUTS = 2  # labels may come with the share of the best class


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a file; None in the shape for an axis of any size."""

    name: str
    dtype: str
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Ends:
    """The input and the outputs of a model file, and which graph that makes it."""

    graph: Graph
    input: Tensor
    outputs: tuple[Tensor, ...]

    @classmethod
    def of(cls, model: str, inputs: "list[Tensor]", outputs: "list[Tensor]", wanted: Optional[Graph]) -> "Ends":
        """Make sense of what a file declares.

        Args:
            model: its name in messages.
            inputs: all of them.
            outputs: all of them.
            wanted: the graph that the caller can run; None for either.

        Raises:
            RunnerError: it is neither graph, or not the wanted one.
        """
        for tensors, direction in ((inputs, "input"), (outputs, "output")):
            most = 1 if direction == "input" or outputs[0].dtype != "uint8" else _MOST_OUTPUTS
            if not 1 <= len(tensors) <= most:
                names = [tensor.name for tensor in tensors]
                raise EndsError(
                    f"{model} has {len(tensors)} {direction}s {names}, not one. Export it with prunekit export."
                )
        first, last = inputs[0], outputs[0]
        graph = _KINDS.get((first.dtype, len(first.shape), last.dtype, len(last.shape)))
        if graph is None:
            wrong = next((each for each in (first, last) if each.dtype != "float32" or len(each.shape) != 4), first)
            raise EndsError(
                f"{model}: {wrong.name} is {wrong.dtype} {show_shape(wrong.shape)}, but float32 with four axes is "
                "needed. Export it with prunekit export, which keeps float32 at the graph's ends."
            )
        if wanted is not None and graph != wanted:
            raise RunnerUsageError(
                f"{model} takes {GIVES[graph]}; here a file is needed that takes {GIVES[wanted]}. Name such a file."
            )
        return cls(graph, first, tuple(outputs))

    def check(self, inputs: "npt.NDArray[Any]") -> None:
        """Refuse an array that the model cannot take.

        Raises:
            RunnerError: its type or an axis differs.
        """
        check_input(inputs, self.graph, self.input.shape)


def check_input(inputs: "npt.NDArray[Any]", graph: Graph, shape: Shape) -> None:
    """Refuse an array that a model with this input cannot take.

    Raises:
        RunnerError: its type or an axis differs.
    """
    got, kind, dtype = inputs.shape, inputs.dtype, "float32" if graph == "logits" else "uint8"
    fits = len(got) == len(shape) and all(want is None or size == want for size, want in zip(got, shape, strict=False))
    if kind == _DTYPES[dtype] and fits and 0 not in got:
        return
    if graph == "labels":
        raise RunnerError(
            f"The model takes pictures, uint8 {show_shape(shape)}, got {kind} {show_shape(got)}. Give pictures of "
            f"that size{_export_for(got)}."
        )
    check_images(inputs, shape)


def _export_for(shape: Shape) -> str:
    """Return how a model is made that takes pictures of this shape, if they are any."""
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        return ""
    height, width = shape[1:3]
    command = f"prunekit export --end2end --picture-size {height}x{width}"
    return f", or export one for theirs: {spelled(command, f'end2end=True, picture_size=({height}, {width})')}"


def bytes_of(shape: "tuple[int, ...]", dtype: str) -> int:
    """Return the memory of an array [bytes]."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(_DTYPES[dtype]).itemsize


def dtype_of(name: str) -> Any:
    """Return numpy's type of a name that `Ends` knows."""
    return _DTYPES[name]
