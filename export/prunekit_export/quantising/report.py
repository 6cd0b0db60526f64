"""What became of an int8 file, and whether it may be published."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit_export.errors import ExportError
from prunekit_export.quantising.judging import Cost
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prunekit_export.quantising.judging import Judged
    from prunekit_export.quantising.layers import Layers

# An int8 file that computes less than this in int8 is none, unless the search has found that it must be so.
MIN_INT8_SHARE = 0.5
# Where no label is known, the float32 file's own labels are held to.
MIN_AGREEMENT = 0.95


@dataclass(frozen=True)
class QuantisedReport:
    """The file, its layers, and its labels beside those of the float32 file; shares in [0, 1]."""

    file: str
    calibration: str
    calibration_images: int
    layers: Layers
    macs: Mapping[str, float]
    """Share of the multiply-accumulates by the type they are computed in."""
    judged: Judged
    reference: Judged
    max_drop: float
    """Of the mIoU."""
    tried: int
    """Files that were compared."""
    searched: bool
    """Whether layers were kept until the mIoU was reached."""

    @property
    def drop(self) -> float | None:
        """By how much the mIoU is below the float32 file's; None where no label is known."""
        return self.cost.drop

    @property
    def cost(self) -> Cost:
        """What the file costs beside the float32 file."""
        return Cost(self.file, self.judged, self.reference, self.max_drop)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**dataclasses.asdict(self), "drop": self.drop}

    def check(self) -> None:
        """Refuse a file that is not what was asked for.

        Raises:
            ExportError: too little of it computes in int8, or its labels or mIoU are too far from the float32 file's.
        """
        share = self.macs.get("int8", 0.0)
        if not self.searched and share < MIN_INT8_SHARE:
            raise ExportError(
                f"{self.file} would compute {share:.0%} of its multiply-accumulates in int8. {self._kept()} "
                "Export fp16, or prune to numbers of channels that are multiples of 8."
            )
        self.cost.check(
            f"Write {spelled('--precision auto', 'precision=auto')} to keep layers in fp16 that need it, calibrate in "
            f"another way ({spelled('--calibration', 'calibration')})"
        )
        if self.drop is None and self.judged.agreement < MIN_AGREEMENT:
            raise ExportError(
                f"{self.file} gives {self.judged.agreement:.2%} of the float32 file's labels; {MIN_AGREEMENT:.0%} are "
                "asked for where the true ones are not known. Export fp16."
            )

    def _kept(self) -> str:
        shown = "; ".join(f"{layer.name}: {layer.reason}" for layer in self.layers.kept[:5])
        more = len(self.layers.kept) - 5
        return f"Not quantised: {shown or 'none'}{f'; and {more} more' if more > 0 else ''}."
