"""Does the file give the network's numbers and labels, at several shapes? 16 bits with each result rounded."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_export.graph import frozen_copy
from prunekit_export.parity.agreement import MIN_AGREEMENT, agreement
from prunekit_export.parity.float64 import as_float64
from prunekit_export.precision import half_of, macs_by_type, precision_name, shares
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx
    import torch

    from prunekit_export.parity.reference import ReferenceRunner, RoundingRunner

    Array = npt.NDArray[np.floating[Any]]
    FloatArray = npt.NDArray[np.float32]
    Run = Callable[[FloatArray], FloatArray]

# Largest error as a share of the largest logit. fp32: another order of sums; fp16: 11 bits over some dozens of layers;
# bf16: 8 bits, so eight times as much.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 0.16}
# In float64; the reference evaluator keeps float32 for the coordinates of Resize, which leaves some 1e-8.
FLOAT64_TOLERANCE = 1e-6

Shape = tuple[int, int, int]  # images, height, width


@dataclass(frozen=True)
class ParityRow:
    """One comparison: (N, h, w), errors of the logits, shares of pixels with the same label."""

    shape: Shape
    images: str
    """"real" or "drawn"."""
    max_abs: float
    max_rel: float  # max_abs over the largest magnitude of the network's logits
    label_agreement: float
    decided_agreement: float
    """Over the pixels that the network decides by more than rounding."""
    decided_share: float
    float64: bool
    """Compared in float64, because the network decides by rounding in float32."""

    def passed(self, tolerance: float) -> bool:
        """Whether logits and labels are the network's; nan is not."""
        return self.max_rel <= tolerance and max(self.label_agreement, self.decided_agreement) >= MIN_AGREEMENT


@dataclass(frozen=True)
class ParityReport:
    """What was compared with the network, in which runtime, and how far it is at each shape."""

    file: str
    runtime: str
    precision: str
    macs: dict[str, float]
    """Share of the multiply-accumulates by the type they are computed in."""
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
        values = {"max_rel": self.max_rel, "label_agreement": self.label_agreement, "min_agreement": MIN_AGREEMENT}
        return dataclasses.asdict(self) | values


def parity(
    segmenter: torch.nn.Module,
    path: Path,
    *,
    shapes: Sequence[Shape],
    edges: Sequence[Shape] = (),
    tolerance: float | None = None,
    real_images: Callable[[Shape], FloatArray] | None = None,
) -> ParityReport:
    """Compare the ONNX file at `path` with `segmenter`, logits and labels, on images of each of `shapes`.

    Args:
        segmenter: the network in torch, float32.
        path: float32 files run in ONNX Runtime, files with fp16 or bf16 inside with each result rounded to it.
        shapes: (images, height, width); the same one several times draws other images.
        edges: more shapes, of which those that the network itself refuses are left out.
        tolerance: largest error as a share of the largest logit; the precision's own when None.
        real_images: prepared images of a shape, for the first shape and every other one; the rest are drawn.

    Raises:
        ExportError: at a shape the network or the file does not run, an error is above the tolerance, or fewer than
            99 % of the pixels that the network decides keep their label.
    """
    import onnx

    model = onnx.load_model(path)
    half = half_of(model)
    limit = TOLERANCE[half.name if half else "fp32"] if tolerance is None else tolerance
    macs = macs_by_type(model, (shapes[0][0], 3, *shapes[0][1:]))
    comparison = _Comparison(path.name, frozen_copy(segmenter), model, limit, real_images)
    shapes = (*shapes, *filter(comparison.is_taken, edges))
    runtime, rows = _rows_in_reference(comparison, shapes) if half else _rows_in_ort(comparison, path, shapes)
    report = ParityReport(path.name, runtime, precision_name(model, macs), shares(macs), limit, rows)
    _check(report)
    return report


def parity_shapes(*, height: int, width: int, batch: int, dynamic: bool, stride: int = 1) -> tuple[Shape, ...]:
    """Return the shapes to compare at: the exported one, and with `dynamic` one and two images of any size.

    These are an odd multiple of the stride, odd sizes above and below the exported one, and one that is off the stride
    by a single pixel.
    """
    if not dynamic:
        return ((batch, height, width),) * 3
    rows, columns = -(-height // stride), -(-width // stride)
    multiple = (2, stride * (rows * 3 // 4 | 1), stride * (columns // 2 | 1))
    larger = (1, height * 5 // 4 | 1, (width + stride) | 1)
    smaller = (2, max(height - 1, 1), (width * 3 // 4) | 1)
    return (batch, height, width), multiple, larger, smaller


def draw_images(shape: Shape, seed: int) -> FloatArray:
    """Draw normalised images (N, 3, h, w): coarse patches with noise, so that labels have regions as in pictures."""
    count, height, width = shape
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, 3, -(-height // 8), -(-width // 8)))
    patches = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    return (patches + 0.3 * random.standard_normal((count, 3, height, width))).astype(np.float32)


@dataclass(frozen=True)
class _Comparison:
    """What the rows of one file share."""

    file: str
    network: torch.nn.Module
    model: onnx.ModelProto
    tolerance: float
    real_images: Callable[[Shape], FloatArray] | None

    def rows(self, run: Run, shapes: Sequence[Shape]) -> tuple[ParityRow, ...]:
        compared = counted(shapes, f"Comparing {self.file} with the network", len(shapes))
        return tuple(self._row(run, shape, seed) for seed, shape in enumerate(compared))

    def is_taken(self, shape: Shape) -> bool:
        try:
            self._in_torch(draw_images(shape, 0))
        except ExportError:
            return False
        return True

    def _row(self, run: Run, shape: Shape, seed: int) -> ParityRow:
        if self.real_images is None or seed % 2:
            kind, images_N3hw = "drawn", draw_images(shape, seed)
        else:
            kind, images_N3hw = "real", self.real_images(shape)
        expected_NKhw = self._in_torch(images_N3hw)
        got_NKhw = self._in_file(run, images_N3hw)
        if got_NKhw.shape != expected_NKhw.shape:
            raise ExportError(
                f"At images {shape} the file gives logits {got_NKhw.shape}, the network {expected_NKhw.shape}. "
                "A network whose Python depends on the size exports with a fixed one (--static)."
            )
        row = _row_of(shape, kind, expected_NKhw, got_NKhw, self.tolerance)
        return row if row.passed(self.tolerance) else self._decided_by_rounding(row, images_N3hw, expected_NKhw) or row

    def _in_torch(self, images_N3hw: Array) -> Array:
        import torch

        try:
            with torch.no_grad():
                return cast("Array", self.network(torch.from_numpy(images_N3hw)).numpy())
        except (RuntimeError, ValueError, IndexError) as error:  # how networks refuse a size
            raise ExportError(
                f"The network itself does not take images {images_N3hw.shape}: {_first_line(error)}. "
                "Export with a fixed size (--static), or give the network the attribute stride, if it takes multiples."
            ) from error

    def _in_file(self, run: Run, images_N3hw: FloatArray) -> FloatArray:
        try:
            return run(images_N3hw)
        except Exception as error:  # the runners' errors share no base class below Exception
            raise ExportError(
                f"{self.file} does not run on images {images_N3hw.shape}, which the network takes: "
                f"{_first_line(error)}. A network that ties a size or the number of images to those of the traced "
                "image exports with a fixed size (--static)."
            ) from error

    def _decided_by_rounding(self, row: ParityRow, images_N3hw: FloatArray, in_float32: Array) -> ParityRow | None:
        """Return the row in float64 where float32 rounding decides something in torch itself and the file is right.

        A maximum or a comparison between almost equal values falls either way in float32, and what depends on it
        differs by more than rounding: no fault of the file.
        """
        images = images_N3hw.astype(np.float64)
        double = dataclasses.replace(self, network=copy.deepcopy(self.network).double())
        try:
            expected = double._in_torch(images)
        except ExportError:  # the network fixes a type inside
            return None
        if expected.dtype != np.float64 or half_of(self.model):
            return None
        if _row_of(row.shape, row.images, expected, in_float32, self.tolerance).passed(self.tolerance):
            return None  # torch's own rounding decides nothing here: the file is at fault
        from prunekit_export.parity.reference import ReferenceRunner

        try:
            got = ReferenceRunner(as_float64(self.model)).run(images)
        except Exception:  # the evaluator does not run every operator, and its errors share no base class
            return None
        in_double = _row_of(row.shape, row.images, expected, got, FLOAT64_TOLERANCE)
        return dataclasses.replace(in_double, float64=True) if in_double.passed(FLOAT64_TOLERANCE) else None


def _rows_in_ort(comparison: _Comparison, path: Path, shapes: Sequence[Shape]) -> tuple[str, tuple[ParityRow, ...]]:
    from prunekit_runtime.running.ort import OrtRunner

    with OrtRunner(path) as runner:
        return runner.name, comparison.rows(runner.run, shapes)


def _rows_in_reference(comparison: _Comparison, shapes: Sequence[Shape]) -> tuple[str, tuple[ParityRow, ...]]:
    runner = _half_runner(comparison.model)
    return runner.name, comparison.rows(runner.run, shapes)


def _half_runner(model: onnx.ModelProto) -> RoundingRunner | ReferenceRunner:
    from prunekit_export.parity.reference import ReferenceRunner, RoundingRunner
    from prunekit_export.precision import RoundingError

    try:
        return RoundingRunner(model)
    except RoundingError:  # subgraphs; the report names what ran
        return ReferenceRunner(model)


def _row_of(shape: Shape, kind: str, expected_NKhw: Array, got_NKhw: Array, tolerance: float) -> ParityRow:
    with np.errstate(invalid="ignore"):
        max_abs = float(np.abs(got_NKhw - expected_NKhw).max())
    labels = agreement(expected_NKhw, got_NKhw, tolerance)
    # The tiny floor keeps an all-zero network comparable: its error must then be zero too.
    max_rel = max_abs / max(float(np.abs(expected_NKhw).max()), 1e-12)
    return ParityRow(shape, kind, max_abs, max_rel, labels.all, labels.decided, labels.decided_share, float64=False)


def _check(report: ParityReport) -> None:
    failed = [row for row in report.rows if not row.passed(report.tolerance)]
    if not failed:
        return
    worst = failed[0]
    images, height, width = worst.shape
    where = f"{report.file} differs from the network at {images} x 3 x {height} x {width} in {report.runtime}"
    half = next((name for name in ("fp16", "bf16") if name in report.macs), "")
    if worst.max_rel <= report.tolerance:
        advice = f" {half} does not resolve the differences between its classes: export fp32." if half else ""
        raise ExportError(
            f"{where}: labels agree on {worst.label_agreement:.2%} of the pixels, {worst.decided_agreement:.2%} of "
            f"those that the network decides clearly; {MIN_AGREEMENT:.0%} is asked for.{advice}"
        )
    keep = spelled("--keep-fp32 NAME", "keep_fp32=(name,)")
    advice = f" Export fp32, or keep the nodes that round too much in float32: {keep}." if half else ""
    if worst.shape[1:] != report.rows[0].shape[1:] and report.rows[0].passed(report.tolerance):
        advice += " A network that does something else at other sizes exports with a fixed one (--static)."
    raise ExportError(
        f"{where}: relative error {worst.max_rel:.2e}, {report.tolerance:.0e} is allowed "
        f"(labels agree on {worst.label_agreement:.2%} of the pixels).{advice}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
