"""What the steps of one export share, and an ONNX file with what was found out about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit_export.padding import at_any_size
from prunekit_export.parity import ParityReport, parity, parity_shapes
from prunekit_export.sizing import prepared_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_export.graph import ExportReport
    from prunekit_export.parity import Shape
    from prunekit_export.precision import RangeReport
    from prunekit_export.quantising import Cost
    from prunekit_export.request import ExportRequest
    from prunekit_export.staging import Stage
    from prunekit_runtime.preprocessing import Preprocessing


@dataclass(frozen=True)
class Job:
    """What the steps of one export share."""

    stage: Stage
    request: ExportRequest
    contract: Preprocessing
    tell: Callable[[str], None]

    @property
    def classes(self) -> dict[str, Any]:
        """Return classes.json."""
        palette = [list(colour) for colour in self.request.palette]
        return {"names": list(self.request.class_names), "palette": palette}

    @property
    def metadata(self) -> dict[str, str]:
        """Return what is written into ONNX files, so that one of them alone can be used."""
        contract, classes = compact(self.contract.to_json()), compact(self.classes)
        return {"prunekit.preprocessing": contract, "prunekit.classes": classes}

    def parity(self, path: Path, stride: int, edges: Sequence[tuple[int, int]] = ()) -> ParityReport:
        """Compare a file with the network, on the request's pictures and drawn images."""
        request = self.request
        shapes: tuple[Shape, ...] = parity_shapes(
            height=request.height, width=request.width, batch=request.batch, dynamic=request.dynamic, stride=stride
        )
        self.tell(f"checking {path.name} against the network")
        return parity(
            at_any_size(request.segmenter, stride),
            path,
            shapes=shapes,
            edges=[(2, *size) for size in edges],
            real_images=prepared_pictures(self.contract, request.pictures),
        )


@dataclass(frozen=True)
class Written:
    """An ONNX file and what was found out about it."""

    onnx: ExportReport
    parity: ParityReport
    ranges: RangeReport | None = None
    cost: Cost | None = None
    """In mIoU, beside the float32 file."""


def compact(value: object) -> str:
    """Return JSON on one line."""
    return json.dumps(value, separators=(",", ":"))
