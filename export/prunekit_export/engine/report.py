"""What an engine is built for, and what is written down about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Package = Literal["tensorrt", "tensorrt_rtx"]
Dims = tuple[int, int, int, int]  # N, 3, h, w


@dataclass(frozen=True)
class Profile:
    """Sizes (N, 3, h, w) that an engine takes, and the one it is tuned for."""

    minimum: Dims
    optimum: Dims
    maximum: Dims


@dataclass(frozen=True)
class EngineReport:
    """What was built, by what, for what; the sidecar file holds the same."""

    plan: str
    plan_bytes: int
    package: Package
    package_choice: str
    version: str
    onnx: str
    onnx_sha256: str
    precision: str
    macs: dict[str, float]
    """Share of the multiply-accumulates by type, in the file and so in the engine."""
    strongly_typed: bool
    tf32: bool
    """Whether float32 layers may compute in TF32: 10 bits of mantissa, not 23, on Ampere and later."""
    profile: Profile
    targets: tuple[str, ...]
    options: dict[str, Any]
    """Of the build: workspace, optimization level and the like; None is TensorRT's own."""
    layers: dict[str, int]
    statement: str

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return dataclasses.asdict(self)
