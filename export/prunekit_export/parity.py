"""Does the file give the network's numbers? Float32 in ONNX Runtime, fp16 as written, at several shapes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from prunekit_export.errors import ExportError
from prunekit_export.onnx_export import frozen_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx
    import torch

    FloatArray = npt.NDArray[np.float32]
    Run = Callable[[FloatArray], FloatArray]

# Largest error as a share of the largest logit. fp32: another order of sums; fp16: 11 bits over some dozens of layers.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}

Shape = tuple[int, int, int]  # images, height, width


@dataclass(frozen=True)
class ParityRow:
    """One comparison: (N, h, w), errors of the logits, share of pixels with the same label."""

    shape: Shape
    max_abs: float
    max_rel: float  # max_abs over the largest magnitude of the network's logits
    label_agreement: float


@dataclass(frozen=True)
class ParityReport:
    """What was compared with the network, in which runtime, and how far it is at each shape."""

    file: str
    runtime: str
    precision: str
    tolerance: float
    rows: tuple[ParityRow, ...]

    @property
    def max_rel(self) -> float:
        """The largest relative error of all rows; nan where the file gives nan."""
        return float(np.max([row.max_rel for row in self.rows]))

    @property
    def label_agreement(self) -> float:
        """The smallest share of equal labels of all rows."""
        return min(row.label_agreement for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return dataclasses.asdict(self) | {"max_rel": self.max_rel, "label_agreement": self.label_agreement}


def parity(
    segmenter: torch.nn.Module, path: Path, *, shapes: Sequence[Shape], tolerance: float | None = None
) -> ParityReport:
    """Compare the ONNX file at `path` with `segmenter` on drawn images of each of `shapes`.

    Args:
        segmenter: the network in torch, float32.
        path: float32 files run in ONNX Runtime, files with fp16 inside in the onnx reference evaluator.
        shapes: (images, height, width); the same one several times draws other images.
        tolerance: largest error as a share of the largest logit; the precision's own when None.

    Raises:
        ExportError: a shape is above the tolerance.
        RunnerError: the file does not run.
    """
    import onnx

    model = onnx.load_model(path)
    precision = precision_of(model)
    limit = TOLERANCE[precision] if tolerance is None else tolerance
    network = frozen_copy(segmenter)
    if precision == "fp32":
        runtime, rows = _rows_in_ort(network, path, shapes)
    else:
        runtime, rows = _rows_in_reference(network, model, shapes)
    report = ParityReport(path.name, runtime, precision, limit, rows)
    _check(report)
    return report


def parity_shapes(*, height: int, width: int, batch: int, dynamic: bool, stride: int = 1) -> tuple[Shape, ...]:
    """Return three shapes to compare at: the exported one, and with `dynamic` two odd multiples of the stride."""
    if not dynamic:
        return ((batch, height, width),) * 3
    rows, columns = height // stride, width // stride
    smaller = (3 if batch == 2 else 2, stride * (rows * 3 // 4 | 1), stride * (columns // 2 | 1))
    larger = (1, stride * ((rows | 1) + 2), stride * (columns | 1))
    return (batch, height, width), smaller, larger


def precision_of(model: onnx.ModelProto) -> str:
    """Return "fp16" for a model with a half-precision weight or Cast, else "fp32"."""
    import onnx

    half = onnx.TensorProto.FLOAT16
    weights = any(tensor.data_type == half for tensor in model.graph.initializer)
    casts = any(
        attribute.name == "to" and attribute.i == half for node in model.graph.node for attribute in node.attribute
    )
    return "fp16" if weights or casts else "fp32"


def draw_images(shape: Shape, seed: int) -> FloatArray:
    """Draw normalised images (N, 3, h, w): coarse patches with noise, so that labels have regions as in pictures."""
    count, height, width = shape
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, 3, -(-height // 8), -(-width // 8)))
    patches = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    return (patches + 0.3 * random.standard_normal((count, 3, height, width))).astype(np.float32)


def _rows_in_ort(network: torch.nn.Module, path: Path, shapes: Sequence[Shape]) -> tuple[str, tuple[ParityRow, ...]]:
    from prunekit_runtime.ort import OrtRunner

    with OrtRunner(path) as runner:
        return runner.name, _rows(network, runner.run, shapes)


def _rows_in_reference(
    network: torch.nn.Module, model: onnx.ModelProto, shapes: Sequence[Shape]
) -> tuple[str, tuple[ParityRow, ...]]:
    from prunekit_export.reference import ReferenceRunner

    runner = ReferenceRunner(model)
    return runner.name, _rows(network, runner.run, shapes)


def _rows(network: torch.nn.Module, run: Run, shapes: Sequence[Shape]) -> tuple[ParityRow, ...]:
    return tuple(_row(network, run, shape, seed) for seed, shape in enumerate(shapes))


def _row(network: torch.nn.Module, run: Run, shape: Shape, seed: int) -> ParityRow:
    import torch

    images_N3hw = draw_images(shape, seed)
    with torch.no_grad():
        expected_NKhw = cast("FloatArray", network(torch.from_numpy(images_N3hw)).numpy())
    got_NKhw = run(images_N3hw)
    if got_NKhw.shape != expected_NKhw.shape:
        raise ExportError(
            f"At images {shape} the file gives logits {got_NKhw.shape}, the network {expected_NKhw.shape}."
        )
    with np.errstate(invalid="ignore"):
        max_abs = float(np.abs(got_NKhw - expected_NKhw).max())
    agreement = float(np.mean(got_NKhw.argmax(axis=1) == expected_NKhw.argmax(axis=1)))
    # The tiny floor keeps an all-zero network comparable: its error must then be zero too.
    return ParityRow(shape, max_abs, max_abs / max(float(np.abs(expected_NKhw).max()), 1e-12), agreement)


def _check(report: ParityReport) -> None:
    # `not <=` instead of `>`: nan fails.
    failed = [row for row in report.rows if not row.max_rel <= report.tolerance]
    if failed:
        worst = failed[0]
        images, height, width = worst.shape
        advice = " Export fp32, or keep the overflowing nodes in fp32." if report.precision == "fp16" else ""
        raise ExportError(
            f"{report.file} differs from the network at {images} x 3 x {height} x {width}: relative error "
            f"{worst.max_rel:.2e} in {report.runtime}, {report.tolerance:.0e} is allowed "
            f"(labels agree on {worst.label_agreement:.2%} of the pixels).{advice}"
        )
