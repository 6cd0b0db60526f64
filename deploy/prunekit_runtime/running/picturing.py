"""One face over both graphs: a picture in, the class of each of its pixels out, in steps that can be timed apart.

Shape suffixes: N images, K classes, h, w the network's size, H, W the picture's size.
"""

import dataclasses
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from prunekit_runtime.classes import MAX_CLASSES
from prunekit_runtime.errors import ContractError
from prunekit_runtime.preprocessing import ByteArray, Preprocessing
from prunekit_runtime.running.ends import check_input
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.ort import Provider
from prunekit_runtime.running.runner import Graph, Runner, Shape, check_finite

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class PictureModel:
    """A runner with its contract: where preprocessing and postprocessing are in the graph, they are not done again."""

    runner: Runner
    contract: Preprocessing

    @property
    def name(self) -> str:
        """What really runs."""
        return self.runner.name

    @property
    def graph(self) -> Graph:
        """What the model takes and gives."""
        return self.runner.graph

    @property
    def input_shape(self) -> Shape:
        """Of the input, None where it takes any size."""
        return self.runner.input_shape

    @property
    def last_parts_ms(self) -> "dict[str, float]":
        """Return the time of the last run by part [ms], where the runner knows it: copy_in, compute, copy_out."""
        return dict(getattr(self.runner, "last_parts_ms", {}))

    def close(self) -> None:
        """Release the model; closing twice is harmless."""
        self.runner.close()

    def __enter__(self) -> "PictureModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, image_HW3: ByteArray) -> Array:
        """Return the input that a picture gives, (1, 3, h, w) float32 or (1, H, W, 3) uint8.

        Raises:
            ContractError: the picture cannot be prepared.
            RunnerError: the model does not take its size.
        """
        inputs = image_HW3[None] if self.graph == "labels" else self.contract.prepare(image_HW3)
        batch = None if self.input_shape[0] is None else 1
        check_input(inputs, self.graph, (batch, *self.input_shape[1:]))
        return inputs

    def compute(self, inputs: Array) -> Array:
        """Run the model: logits (N, K, h, w) or labels (N, H, W).

        Raises:
            RunnerError: the backend failed.
        """
        return self.runner.run(inputs)

    def labels(self, output_1: Array, height: int, width: int) -> ByteArray:
        """Return the class of each pixel of a picture of this size [px], uint8 (height, width).

        Args:
            output_1: of one picture, (1, K, h, w) or (1, H, W).
            height: the picture's.
            width: the picture's.

        Raises:
            RunnerError: the logits are not finite.
            ContractError: the output does not belong to a picture of this size, or has more than 255 classes.
        """
        if self.graph == "labels":
            if output_1.shape != (1, height, width):
                raise ContractError(
                    f"{self.name} gives labels {output_1.shape} for a picture of {height} x {width}. "
                    "Export the model again."
                )
            return output_1[0]
        check_finite(output_1, self.name)
        if output_1.shape[1] > MAX_CLASSES:
            raise ContractError(f"{self.name} gives {output_1.shape[1]} classes, at most {MAX_CLASSES} are labelled.")
        return self.contract.restore_labels(output_1, height, width)


def open_picture_model(
    path: Path,
    contract: Preprocessing,
    *,
    graph: Optional[Graph] = None,
    provider: Optional[Provider] = None,
    threads: Optional[int] = None,
    cuda_graph: bool = False,
) -> PictureModel:
    """Open an engine or an ONNX file of either graph for labelling pictures.

    Args:
        path: the model file.
        contract: of the model.
        graph: what the file must be; None takes it as it is.
        provider: of ONNX Runtime, the CPU where it is None.
        threads: of ONNX Runtime.
        cuda_graph: launch an engine's kernels as one CUDA graph.

    Raises:
        RunnerError: the file cannot be run here, or is the other graph.
    """
    runner = open_runner(path, provider=provider, threads=threads, graph=graph, cuda_graph=cuda_graph)
    return PictureModel(runner, contract)


def stacked(inputs: "list[Array]", batch: "int | None") -> Array:
    """Return inputs of one shape as a batch; of a fixed number, the last one again where there are too few."""
    missing = 0 if batch is None else batch - len(inputs)
    return np.concatenate([*inputs, *[inputs[-1]] * missing]) if len(inputs) + missing > 1 else inputs[0]
