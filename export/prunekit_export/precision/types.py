"""The number types of 16 bits, and which types a model holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ml_dtypes  # onnx brings it
import numpy as np

if TYPE_CHECKING:
    import onnx

HalfName = Literal["fp16", "bf16"]


@dataclass(frozen=True)
class Half:
    """A float of 16 bits."""

    name: HalfName
    dtype: np.dtype[Any]
    onnx_type: int
    schema_name: str
    largest: float
    zero: float
    """Half of the smallest number above 0: this and below rounds to zero."""


# Numbers of onnx.TensorProto, which take a second to import.
FP16 = Half("fp16", np.dtype(np.float16), 10, "tensor(float16)", 65504.0, 2.0**-25)
BF16 = Half("bf16", np.dtype(ml_dtypes.bfloat16), 16, "tensor(bfloat16)", float(np.finfo(np.float32).max), 2.0**-134)
HALVES: dict[str, Half] = {half.name: half for half in (FP16, BF16)}


def half_of(model: onnx.ModelProto) -> Half | None:
    """Return the type of 16 bits that a weight or a Cast of `model` has, to which it rounds somewhere; bf16 first."""
    held = {tensor.data_type for tensor in model.graph.initializer}
    attributes = (attribute for node in model.graph.node for attribute in node.attribute)
    held |= {attribute.i for attribute in attributes if attribute.name == "to"}
    return next((half for half in (BF16, FP16) if half.onnx_type in held), None)


def holds_int8(model: onnx.ModelProto) -> bool:
    """Say whether activations of `model` are rounded to int8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)
