"""Read who built a TensorRT plan, without TensorRT: the file's first 28 bytes tell."""

import dataclasses
from pathlib import Path
from typing import Literal

from prunekit_runtime.errors import RunnerError, RunnerUsageError

Package = Literal["tensorrt", "tensorrt_rtx"]

# Seen in plans of TensorRT-RTX 1.7.1, and as a string in TensorRT's lean runtime.
MAGICS: dict[bytes, Package] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
HEADER_BYTES = 28
_VERSION = slice(24, 28)  # major, minor, patch, build: the bytes that trtexec --getPlanVersionOnly shows


@dataclasses.dataclass(frozen=True)
class PlanHeader:
    """The Python package that runs a plan, and the version that built it, such as 10.3.0.26."""

    package: Package
    version: str


def sniff_plan(content: bytes) -> PlanHeader:
    """Read the header of a plan; the first 28 bytes are enough.

    Raises:
        RunnerError: the bytes are no plan.
    """
    if len(content) < HEADER_BYTES:
        raise RunnerError(
            f"An engine of {len(content)} bytes is cut short: its header alone has {HEADER_BYTES}. Rebuild it."
        )
    package = MAGICS.get(bytes(content[:4]))
    if package is None:
        raise RunnerUsageError(
            f"This is no TensorRT engine: it begins with {bytes(content[:4])!r}, not with "
            f"{' or '.join(map(repr, MAGICS))}. Build one: prunekit export --trt, or trtexec on the device."
        )
    return PlanHeader(package, ".".join(map(str, content[_VERSION])))


def read_plan_header(path: Path) -> PlanHeader:
    """Read the header of a plan file.

    Raises:
        RunnerError: the file is missing or is no plan.
    """
    try:
        with Path(path).open("rb") as file:
            return sniff_plan(file.read(HEADER_BYTES))
    except OSError as error:
        raise RunnerError(f"Engine {path} cannot be read: {error.strerror}.") from error
