"""Do two sets of logits name the same classes, where the network decides at all?

N images, K classes, h w their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

MIN_AGREEMENT = 0.99


@dataclass(frozen=True)
class Agreement:
    """Shares of pixels in [0, 1]."""

    all: float
    """Pixels with the same label."""
    decided: float
    """The same among the decided pixels alone; 1 where there are none."""
    decided_share: float
    """Pixels that the network decides: the best class leads by more than rounding."""

    @property
    def passed(self) -> bool:
        """Whether the labels are the same but for what rounding decides."""
        return max(self.all, self.decided) >= MIN_AGREEMENT


def agreement(expected_NKhw: Array, got_NKhw: Array, tolerance: float) -> Agreement:
    """Compare labels; a pixel is decided where its lead exceeds `tolerance` times the typical spread of its logits.

    The spread is the standard deviation over the classes, its median over the pixels: what all classes have in common
    does not count, as it decides nothing, and a few extreme pixels do not excuse the others.
    """
    same_Nhw = expected_NKhw.argmax(axis=1) == got_NKhw.argmax(axis=1)
    second_Nhw, first_Nhw = np.moveaxis(np.partition(expected_NKhw, -2, axis=1)[:, -2:], 1, 0)
    with np.errstate(invalid="ignore"):
        spread = np.median(expected_NKhw.std(axis=1, dtype=np.float64))
        decided_Nhw = first_Nhw - second_Nhw > tolerance * spread
    among = same_Nhw[decided_Nhw]
    shares = np.mean(same_Nhw), np.mean(among) if among.size else 1.0, np.mean(decided_Nhw)
    return Agreement(*(float(cast("float", share)) for share in shares))
