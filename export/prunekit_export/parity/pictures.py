"""Does a file from pictures to labels label as its parts do apart: contract, file of logits, contract again?

The file's own logits at the pictures' size are read as well, by a copy that gives them, so that three things are held:

1. These logits are those of the parts, to the rounding of coordinates in a resize and what the network makes of it.
2. The labels are the lowest of the classes with the largest of these logits, at every pixel, and the confidence, if
   any, is that class's share.
3. So labels differ from those of the parts only at pixels that are tied: where the best class leads by no more than
   twice the error of the logits. How many are tied, and how many differ, is counted.

N pictures, K classes, H W their size.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunekit.progress import counted
from prunekit_export.errors import ExportError
from prunekit_export.graph import CONFIDENCE, LABELS, restored_logits
from prunekit_export.parity.agreement import MIN_AGREEMENT, agreement
from prunekit_export.precision import BF16, half_of, holds_int8, open_session, rounded
from prunekit_runtime.preprocessing import resize_bilinear
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import onnx

    from prunekit_runtime.preprocessing import ByteArray, Preprocessing
    from prunekit_runtime.running.runner import Graph

    FloatArray = npt.NDArray[np.float32]

# Largest error as a share of the largest logit. A coordinate in float32 is off by up to 1e-4 px beyond 1024 px, in both
# resizes; a network in fp16 rounds what it sees anew, and in int8 such a rounding may be a whole step.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 0.16, "int8": 0.25}
MIN_SAME = {"fp32": MIN_AGREEMENT, "fp16": MIN_AGREEMENT, "bf16": MIN_AGREEMENT, "int8": 0.95}
_MOST_VALUES = 1 << 25  # of logits that are looked at together [float32 values]


@dataclass(frozen=True)
class PictureParity:
    """What was compared, the worst of all pictures; shares of pixels in [0, 1]."""

    file: str
    parts: str
    """The file of logits that it was made from."""
    graph: str
    runtime: str
    sizes: tuple[tuple[int, int], ...]
    """Of the pictures, height and width [px]."""
    real: int
    """How many of them are validation images; the others are drawn."""
    confidence: bool
    """Whether the file gives one, which then was compared too."""
    tolerance: float
    min_agreement: float
    max_rel: float
    """Error of the logits at the pictures' size, over their largest magnitude."""
    label_agreement: float
    """Pixels with the label that the parts give."""
    tied_share: float
    """Pixels whose best class leads by no more than twice the error of the logits."""
    untied_agreement: float
    """The same label, over the pixels that are not tied."""
    decided_agreement: float
    """The same label, over the pixels that the network decides clearly; see `agreement`."""
    chosen: bool
    """Every label is the lowest of the classes with the largest logit, and the confidence is its share."""

    @property
    def passed(self) -> bool:
        """Whether the file labels as its parts do; nan does not."""
        same = max(self.label_agreement, self.decided_agreement) >= self.min_agreement
        return self.chosen and self.max_rel <= self.tolerance and self.untied_agreement == 1 and same

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return dataclasses.asdict(self)


def picture_parity(
    logits: Path,
    labels: Path,
    contract: Preprocessing,
    pictures: Sequence[ByteArray],
    sizes: Sequence[tuple[int, int]],
) -> PictureParity:
    """Compare a file of the graph "labels" with the file of logits that it was made from, in ONNX Runtime.

    Args:
        logits: float32 images to logits.
        labels: uint8 pictures to labels.
        contract: of both.
        pictures: RGB, uint8 (H, W, 3) each; resized where they have another size. One is drawn for each size besides.
        sizes: to compare at, height and width [px].

    Raises:
        ExportError: a file does not run, or labels are others than those of the parts for more than rounding.
    """
    import onnx

    model = onnx.load_model(labels)
    half = half_of(model)
    kind = "int8" if holds_int8(model) else half.name if half else "fp32"
    with _opened(logits, model) as apart, _opened(labels, model, graph="labels") as inside:
        comparison = _Comparison(apart, inside, _Logits(model), contract)
        batches = list(_batches(pictures, sizes, inside.input_shape[0]))
        told = counted(batches, f"Comparing {labels.name} with {logits.name}", len(batches))
        worst = _worst([judged for batch_NHW3 in told for judged in comparison.judged(batch_NHW3)])
        has_confidence, runtime = len(inside.outputs) > 1, inside.name
    report = PictureParity(
        file=labels.name,
        parts=logits.name,
        graph="labels",
        runtime=runtime,
        sizes=tuple(sizes),
        real=len(pictures) * len(sizes),
        confidence=has_confidence,
        tolerance=TOLERANCE[kind],
        min_agreement=MIN_SAME[kind],
        **dataclasses.asdict(worst),
    )
    _check(report)
    return report


def _opened(path: Path, labels: onnx.ModelProto, graph: Graph = "logits") -> OrtRunner:
    """Open a file; with bf16 inside with each result rounded, as ONNX Runtime has no bf16 on a CPU."""
    import onnx

    if half_of(labels) != BF16:
        return OrtRunner(path, graph=graph)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        written.write_bytes(rounded(onnx.load_model(path)).SerializeToString())
        return OrtRunner(written, graph=graph, optimise=False)


class _Logits:
    """A copy of a graph from pictures to labels that gives its logits at the pictures' size."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        name = restored_logits(model)
        axes = ["proof_n", "proof_k", "proof_h", "proof_w"]
        copied.graph.ClearField("output")
        copied.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, axes))
        is_bf16 = half_of(model) == BF16
        self._session: Any = open_session(rounded(copied), optimise=False) if is_bf16 else open_session(copied)
        self._input = model.graph.input[0].name

    def __call__(self, pictures_NHW3: ByteArray) -> FloatArray:
        """Return logits (N, K, H, W)."""
        return self._session.run(None, {self._input: pictures_NHW3})[0]


@dataclass(frozen=True)
class _Comparison:
    """What the pictures of one file share."""

    apart: OrtRunner
    inside: OrtRunner
    logits: _Logits
    contract: Preprocessing

    def judged(self, pictures_NHW3: ByteArray) -> Iterator[_Judged]:
        """Yield what comes of each picture."""
        height, width = pictures_NHW3.shape[1:3]
        given = dict(zip(self.inside.outputs, self.inside.run_all(pictures_NHW3), strict=True))
        got_NKHW = self.logits(pictures_NHW3)
        ran_NKhw = self.apart.run(np.concatenate([self.contract.prepare(picture) for picture in pictures_NHW3]))
        for place, ran_Khw in enumerate(ran_NKhw):
            expected_KHW = self.contract.restore_logits(ran_Khw[None], height, width)
            shares_HW = given[CONFIDENCE][place] if CONFIDENCE in given else None
            yield _judged(expected_KHW, got_NKHW[place], given[LABELS][place], shares_HW)


@dataclass(frozen=True)
class _Judged:
    """One picture; as `PictureParity`."""

    max_rel: float
    label_agreement: float
    tied_share: float
    untied_agreement: float
    decided_agreement: float
    chosen: bool


def _judged(
    expected_KHW: FloatArray, got_KHW: FloatArray, labels_HW: ByteArray, confidence_HW: ByteArray | None
) -> _Judged:
    with np.errstate(invalid="ignore"):
        error = float(np.max([np.abs(got - want).max() for want, got in zip(expected_KHW, got_KHW, strict=True)]))
    largest = float(np.max([np.abs(want).max() for want in expected_KHW]))
    same = tied = wrong = 0
    chosen = True
    for rows in _bands(expected_KHW.shape):
        second_HW, first_HW = np.partition(expected_KHW[:, rows], -2, axis=0)[-2:]
        equal_HW = expected_KHW[:, rows].argmax(axis=0) == labels_HW[rows]
        tied_HW = first_HW - second_HW <= 2 * error
        same, tied, wrong = same + equal_HW.sum(), tied + tied_HW.sum(), wrong + (~equal_HW & ~tied_HW).sum()
        chosen = chosen and bool((got_KHW[:, rows].argmax(axis=0) == labels_HW[rows]).all())
        if confidence_HW is not None:
            chosen = chosen and _is_share(got_KHW[:, rows], confidence_HW[rows])
    step = -(-expected_KHW.size // _MOST_VALUES)
    decided = agreement(expected_KHW[None, :, ::step], got_KHW[None, :, ::step], TOLERANCE["fp32"]).decided
    # The tiny floor keeps an all-zero network comparable: its error must then be zero too.
    return _Judged(
        max_rel=error / max(largest, 1e-12),
        label_agreement=float(same / labels_HW.size),
        tied_share=float(tied / labels_HW.size),
        untied_agreement=1 - float(wrong / max(labels_HW.size - tied, 1)),
        decided_agreement=decided,
        chosen=chosen,
    )


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of logits (K, H, W) in parts that take little memory."""
    classes, height, width = shape
    step = max(_MOST_VALUES // (classes * width), 1)
    return (slice(start, start + step) for start in range(0, height, step))


def _is_share(logits_KHW: FloatArray, confidence_HW: ByteArray) -> bool:
    """Say whether the confidence is the softmax share of the best class in parts of 255, to one part."""
    below_KHW = np.exp(logits_KHW - logits_KHW.max(axis=0))
    return bool((np.abs(255 / below_KHW.sum(axis=0) - confidence_HW) <= 1).all())


def _worst(judged: list[_Judged]) -> _Judged:
    return _Judged(
        max_rel=float(np.max([one.max_rel for one in judged])),
        label_agreement=min(one.label_agreement for one in judged),
        tied_share=max(one.tied_share for one in judged),
        untied_agreement=min(one.untied_agreement for one in judged),
        decided_agreement=min(one.decided_agreement for one in judged),
        chosen=all(one.chosen for one in judged),
    )


def _check(report: PictureParity) -> None:
    if report.passed:
        return
    where = f"{report.file} does not give the labels of {report.parts} with its contract"
    if not report.chosen:
        raise ExportError(f"{where}: {report.runtime} does not choose the class of the largest logit. Update it.")
    advice = f"Leave out {spelled('--end2end', 'end2end')}, or take pictures of the network's own size."
    raise ExportError(
        f"{where}: relative error of the logits {report.max_rel:.2e}, {report.tolerance:.0e} is allowed; labels agree "
        f"on {report.label_agreement:.2%} of the pixels, on {report.decided_agreement:.2%} of those that the network "
        f"decides clearly. {advice}"
    )


def _batches(pictures: Sequence[ByteArray], sizes: Sequence[tuple[int, int]], fixed: int | None) -> Iterator[ByteArray]:
    """Yield pictures (N, H, W, 3), as many as the file takes; where it takes any number, the last two are together."""
    for place, size in enumerate(sizes):
        sized = [*(_sized(picture, *size) for picture in pictures), _drawn(*size, seed=place)]
        count = fixed or (2 if place == len(sizes) - 1 else 1)
        sized = [_drawn(*size, seed=100 + number) for number in range(-len(sized) % count)] + sized
        yield from (np.stack(sized[start : start + count]) for start in range(0, len(sized), count))


def _sized(picture_HW3: ByteArray, height: int, width: int) -> ByteArray:
    if picture_HW3.shape[:2] == (height, width):
        return picture_HW3
    resized = resize_bilinear(picture_HW3.transpose(2, 0, 1).astype(np.float32), height, width)
    return np.ascontiguousarray(resized.round().astype(np.uint8).transpose(1, 2, 0))


def _drawn(height: int, width: int, seed: int) -> ByteArray:
    """Return coloured patches with noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (3, 5, 7)).astype(np.float32)
    noise = generator.normal(0, 6, (3, height, width))
    values = np.clip(resize_bilinear(coarse, height, width) + noise, 0, 255)
    return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))
