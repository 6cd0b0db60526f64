"""What a device has to reach, and in which words it fails.

Shares of pixels and IoU are in [0, 1].
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Optional

# Largest error of the logits as a share of the largest: another order of sums; TF32 and fp16 have 11 bits of mantissa,
# over some dozens of layers; 8 bits.
LOGIT_ERROR = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 5e-2, "bf16": 2e-1, "int8": 3e-1, "fp8": 3e-1}


@dataclasses.dataclass(frozen=True)
class Gates:
    """Limits; each is on all golden pictures together."""

    agreement: float = 0.99
    """Of the labels with the expected ones."""
    edge_agreement: float = 0.95
    """The same on pixels beside another class, where a shift by half a pixel shows and rounding hardly does."""
    class_iou: float = 0.8
    """Of each class with the expected labels: a rare class that is lost does not show in the share of all pixels."""
    miou_drop: float = 0.005
    """By which the mIoU against the true labels may be below the expected labels' own."""

    def to_json(self) -> dict[str, Any]:
        """Return them as a JSON object."""
        return dataclasses.asdict(self)


# 8 bits move borders, and lose some of what is small; whether that is too much is for the mIoU to say.
_EIGHT_BITS = Gates(agreement=0.95, edge_agreement=0.8, class_iou=0.7, miou_drop=0.02)


def usual_gates(precision: str) -> Gates:
    """Return the limits for a model of a precision."""
    return _EIGHT_BITS if precision in ("int8", "fp8") else Gates()


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came out, over all golden pictures."""

    agreement: float
    edge_agreement: Optional[float]
    """None where no two classes meet."""
    class_iou: "dict[str, float]"
    """By class, with the expected labels, of classes that are there often enough to be judged."""
    miou: Optional[float]
    """Against the true labels, where they are known."""
    expected_miou: Optional[float]
    logit_error: Optional[float]
    """Largest error as a share of the largest logit, where the model gives logits."""
    finite: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return dataclasses.asdict(self)


def failures(measured: Measured, gates: Gates, arithmetic: str) -> Iterator[str]:
    """Yield a sentence for each gate that is missed.

    Args:
        measured: what came out.
        gates: the limits.
        arithmetic: a key of `LOGIT_ERROR`.
    """
    if not measured.finite:
        yield "logits are not finite (nan or infinity): the model overflows in its precision"
    if not measured.agreement >= gates.agreement:
        yield f"{measured.agreement:.2%} of the labels are the expected ones, {gates.agreement:.0%} are asked for"
    if measured.edge_agreement is not None and not measured.edge_agreement >= gates.edge_agreement:
        yield (
            f"beside edges {measured.edge_agreement:.2%} of the labels are the expected ones, "
            f"{gates.edge_agreement:.0%} are asked for: pictures or labels are shifted, or resized in another way"
        )
    for name, iou in measured.class_iou.items():
        if not iou >= gates.class_iou:
            yield f"class {name} has an IoU of {iou:.3f} with the expected labels, {gates.class_iou} is asked for"
    if measured.miou is not None and measured.expected_miou is not None:
        drop = measured.expected_miou - measured.miou
        if not drop <= gates.miou_drop:
            yield f"mIoU is {measured.miou:.4f}, and {measured.expected_miou:.4f} is expected"
    if measured.logit_error is not None and not measured.logit_error <= LOGIT_ERROR[arithmetic]:
        yield (
            f"logits are off by {measured.logit_error:.1e} of the largest, {LOGIT_ERROR[arithmetic]:.0e} is allowed "
            f"in {arithmetic}"
        )
