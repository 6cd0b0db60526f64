"""Any ONNX file, run as it is on made-up inputs, so that its latency can be measured: a mask, several outputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from prunekit_export.errors import ExportUsageError
from prunekit_runtime.errors import RunnerError
from prunekit_runtime.running.ort import OrtSession
from prunekit_runtime.running.runner import ClosingRunner, Graph, check_memory
from prunekit_runtime.spelling import spelled
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class AnyRunner(ClosingRunner):
    """A file with any inputs and outputs on one provider, fed with noise; whole numbers are zeros.

    Args:
        path: the file.
        provider: as of `OrtRunner`.
        threads: CPU threads; 0 leaves the choice to ONNX Runtime.
        batch: images at once, where the file leaves it open.
        height: of an image [px], where the file leaves it open; 0 where it is not known.
        width: as the height.

    Raises:
        RunnerError: ONNX Runtime does not load it.
        ExportUsageError: an input has another type, or a size that is not known.
    """

    def __init__(self, path: Path, provider: str | None, threads: int, *, batch: int, height: int, width: int) -> None:
        opened = OrtSession(path, provider or "cpu", threads)
        self._session: Any = opened.session
        self.name = f"{opened.name}, all inputs and outputs"
        declared = self._session.get_inputs()
        sizes = (batch, height, width)
        self.feed = {item.name: _made(path, item, sizes) for item in declared}
        first = self.feed[declared[0].name]
        self.input: npt.NDArray[Any] = first
        self.inputs = tuple(item.name for item in declared)
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.input_shape = first.shape
        self.graph: Graph = "logits"

    def __enter__(self) -> Self:
        return self

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the image [px]; 0 where the first input is none."""
        shape = self.input.shape
        if len(shape) != 4:
            return 0, 0
        return (shape[1], shape[2]) if _is_last(shape) else (shape[2], shape[3])

    def run(self, _: object, /) -> npt.NDArray[Any]:
        """Run on the made-up inputs, and return the first output.

        Raises:
            RunnerError: ONNX Runtime failed.
        """
        try:
            return self._session.run(None, self.feed)[0]
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            text = printable_name((str(error).strip().splitlines() or [type(error).__name__])[0])
            raise RunnerError(f"{self.name} failed: {text}") from error

    def close(self) -> None:
        """Release the session."""
        self._session = None


def _made(path: Path, item: Any, sizes: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Return an array for an input; open axes of an image are the batch, the height and the width."""
    kind, name = _TYPES.get(item.type), printable_name(item.name)
    if kind is None:
        raise ExportUsageError(f"{path}: the input {name} is {item.type}, which cannot be made up. Fix it first.")
    shape = [size if isinstance(size, int) and size > 0 else None for size in item.shape]
    batch, height, width = sizes
    if shape and shape[0] is None:
        shape[0] = batch
    if len(shape) == 4:
        rows, columns = (1, 2) if _is_last(shape) else (2, 3)
        shape[rows], shape[columns] = shape[rows] or height or None, shape[columns] or width or None
    known = [size for size in shape if size is not None]
    if len(known) < len(shape):
        raise ExportUsageError(
            f"{path}: the input {name} is {item.shape}, of which not all sizes are known. "
            f"Give {spelled('--height and --width', 'height and width')}, or fix the others in the file."
        )
    check_memory(tuple(known), f"{path}: {name}")
    if not np.issubdtype(kind, np.floating):
        return np.zeros(known, kind)
    drawn = np.random.default_rng(0).standard_normal(min(math.prod(known), 4096))
    return np.resize(drawn, known).astype(kind)


def _is_last(shape: Sequence[int | None]) -> bool:
    return shape[1] != 3 and shape[3] == 3
