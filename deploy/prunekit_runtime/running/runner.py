"""What every runner offers, whatever executes the model: one image batch in, logits out, and an honest name.

Shape suffixes: N images, K classes, h, w the network's size.
"""

import math
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from prunekit_runtime.errors import RunnerError
from prunekit_runtime.spelling import spelled

FloatArray = npt.NDArray[np.float32]
Graph = Literal["logits", "labels"]
# One entry per axis, None where the model takes any size.
Shape = tuple[int | None, ...]

MAX_TENSOR_BYTES = 1 << 33  # of float32: 150 classes of a 3000 x 4500 px image


class Runner(Protocol):
    """A loaded model that is ready to run; a context manager that closes itself."""

    name: str  # what really runs, such as "onnxruntime CPUExecutionProvider 1.31.1"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shape: Shape  # (N, 3, h, w), or (N, H, W, 3) of pictures
    graph: Graph

    def run(self, inputs: "npt.NDArray[Any]", /) -> "npt.NDArray[Any]":
        """Run normalised float32 images (N, 3, h, w) to logits (N, K, h, w), or uint8 pictures to labels (N, H, W).

        Returns:
            A fresh array.

        Raises:
            RunnerError: the input does not fit, the runner is closed, or the backend failed.
        """
        ...

    def close(self) -> None:
        """Release the model and its memory; closing twice is harmless."""
        ...

    def __enter__(self) -> "Runner": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ClosingRunner:
    """The context-manager half of a runner."""

    def close(self) -> None:
        """Release what the runner holds."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_images(images_N3hw: FloatArray, shape: Shape) -> None:
    """Refuse images that a model with this input shape cannot take.

    Raises:
        RunnerError: the type or an axis differs.
    """
    got, kind = images_N3hw.shape, images_N3hw.dtype
    fits = len(got) == len(shape) and all(want is None or size == want for size, want in zip(got, shape, strict=False))
    if kind != np.float32 or not fits or 0 in got:
        raise RunnerError(
            f"The model takes float32 images of the shape {show_shape(shape)}, got {kind} {show_shape(got)}. "
            "Prepare images with the model's preprocessing contract, or export it with "
            f"{spelled('--dynamic', 'dynamic=True')} for other sizes."
        )


def check_finite(logits_NKhw: FloatArray, name: str) -> None:
    """Refuse logits that are no numbers: no pixel has a class then, and no score or latency means anything.

    Raises:
        RunnerError: some are nan or infinite.
    """
    if not np.isfinite(logits_NKhw).all():
        raise RunnerError(
            f"{name} gives logits that are not finite (nan or infinity). Its training diverged, its weights are "
            "damaged, or it overflows in fp16: train with a lower learning rate, or export fp32."
        )


def check_memory(shape: Shape, name: str) -> None:
    """Refuse a shape that a file declares, or a user asks for, whose images or logits no machine should have to hold.

    Raises:
        RunnerError: the axes of known size alone make more than 8 GiB of float32.
    """
    size_bytes = 4 * math.prod(1 if size is None else size for size in shape)
    if size_bytes > MAX_TENSOR_BYTES:
        raise RunnerError(
            f"{name} of the shape {show_shape(shape)} takes {size_bytes / 2**30:.1f} GiB, at most "
            f"{MAX_TENSOR_BYTES / 2**30:.0f} GiB are allowed. Use smaller images or fewer at once."
        )


def show_shape(shape: Shape) -> str:
    """Write a shape as 1 x 3 x ? x ?; the question mark stands for any size."""
    return " x ".join("?" if size is None else str(size) for size in shape) or "scalar"
