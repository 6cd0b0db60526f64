"""The numbers a file stands for, computed as written: fp16 nodes round to fp16, which ONNX Runtime's CPU does not do.

ONNX Runtime on a CPU puts Casts round every fp16 node and computes in float32: an overflow stays unseen. The reference
evaluator of the onnx package computes in the file's types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv import Conv as SlowConv
from onnx.reference.ops.op_conv_transpose import ConvTranspose as SlowConvTranspose

from prunekit_export.precision import half_of, open_session, rounded
from prunekit_runtime.running.ort import require_onnxruntime

if TYPE_CHECKING:
    import numpy.typing as npt


class Conv(OpRun):
    """Convolution as tensor cores do it: exact products of fp16 numbers, float32 sums, one rounding of the result.

    Float64 images are summed in float64.

    The evaluator's own takes minutes for a full-size picture. Padding rules by name are left to it.
    """

    op_domain = ""

    def _run(
        self,
        images: npt.NDArray[Any],
        weight: npt.NDArray[Any],
        bias: npt.NDArray[Any] | None = None,
        **attributes: Any,
    ) -> tuple[npt.NDArray[Any]]:
        if images.ndim != 4 or attributes.get("auto_pad") not in (None, "NOTSET", b"NOTSET"):
            slow: Any = SlowConv
            return (slow.eval(images, weight, bias, **attributes),)
        top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
        sums = torch.float64 if images.dtype == "float64" else torch.float32
        padded = F.pad(torch.from_numpy(images).to(sums), (left, right, top, bottom))
        result = F.conv2d(
            padded,
            torch.from_numpy(weight.copy()).to(sums),
            None if bias is None else torch.from_numpy(bias.copy()).to(sums),
            stride=tuple(attributes.get("strides") or (1, 1)),
            dilation=tuple(attributes.get("dilations") or (1, 1)),
            groups=attributes.get("group") or 1,
        )
        return (result.numpy().astype(images.dtype),)


class ConvTranspose(OpRun):
    """Transposed convolution by torch; the evaluator's own fails on several groups and takes minutes for a picture.

    Padding rules by name, and a given output's shape, are left to it.
    """

    op_domain = ""

    def _run(
        self,
        images: npt.NDArray[Any],
        weight: npt.NDArray[Any],
        bias: npt.NDArray[Any] | None = None,
        **attributes: Any,
    ) -> tuple[npt.NDArray[Any]]:
        named = attributes.get("auto_pad") not in (None, "NOTSET", b"NOTSET") or attributes.get("output_shape")
        if images.ndim != 4 or named:
            slow: Any = SlowConvTranspose
            return (slow.eval(images, weight, bias, **attributes),)
        sums = torch.float64 if images.dtype == "float64" else torch.float32
        whole = F.conv_transpose2d(
            torch.from_numpy(images).to(sums),
            torch.from_numpy(weight.copy()).to(sums),
            stride=tuple(attributes.get("strides") or (1, 1)),
            dilation=tuple(attributes.get("dilations") or (1, 1)),
            groups=attributes.get("group") or 1,
        )
        top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
        below, beside = attributes.get("output_padding") or (0, 0)
        # Negative padding crops: what `pads` take off may reach into the rows that `output_padding` adds.
        result = F.pad(whole, (-left, beside - right, -top, below - bottom))
        if bias is not None:
            result = result + torch.from_numpy(bias.copy()).to(sums)[:, None, None]
        return (result.numpy().astype(images.dtype),)


class RoundingRunner:
    """Run a model with fp16 or bf16 inside in ONNX Runtime, each result rounded to what the file says.

    Raises:
        RoundingError: the file cannot be written so.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        # As written: fused operators would leave out the roundings between them.
        half = half_of(model)
        self._session: Any = open_session(rounded(model), optimise=False)
        self._input = model.graph.input[0].name
        rounding = f" with results rounded to {half.name}" if half else ""
        self.name = f"onnxruntime {require_onnxruntime().__version__}{rounding}"

    def run(self, images_N3hw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the logits (N, K, h, w), float32."""
        import numpy as np

        return self._session.run(None, {self._input: images_N3hw.astype(np.float32, copy=False)})[0]


class ReferenceRunner:
    """Evaluate a model with the onnx package; slow, and right for every type and operator."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.name = f"onnx.reference {onnx.__version__}"
        self._evaluator = ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose])
        self._input = model.graph.input[0].name

    def run(self, images_N3hw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the logits (N, K, h, w), in the type of the images where the file keeps it."""
        import numpy as np

        # An overflow to infinity is a finding of the comparison, not a warning on the way.
        with np.errstate(all="ignore"):
            results: Any = self._evaluator.run(None, {self._input: images_N3hw})
        return results[0]
