"""What a build is asked for, and the sizes that an engine takes: (N, 3, h, w) or (N, H, W, 3), as the file's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prunekit_runtime.errors import BuildUsageError
from prunekit_runtime.running.runner import check_memory, show_shape

Backend = Literal["tensorrt", "ort"]
BACKENDS: tuple[Backend, ...] = ("tensorrt", "ort")

MAX_LEVEL = 5  # builder_optimization_level of TensorRT
MAX_WORKSPACE_MIB = 1 << 20


@dataclass(frozen=True)
class Profile:
    """Sizes that an engine takes, and the one it is tuned for."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def to_json(self) -> dict[str, list[int]]:
        """Return {"min", "opt", "max"}, as a bundle writes it."""
        return {"min": list(self.minimum), "opt": list(self.optimum), "max": list(self.maximum)}


@dataclass(frozen=True)
class BuildOptions:
    """How to build. Whatever is None is left to the bundle, or to TensorRT."""

    workspace_mib: int | None = None
    """Memory that TensorRT may try kernels in; None is TensorRT's own limit, or half of what is free where the GPU
    shares the CPU's memory."""
    optimization_level: int | None = None
    """0 builds fastest, 5 looks longest for fast kernels; None is TensorRT's own, 3."""
    minimum: tuple[int, ...] | None = None
    optimum: tuple[int, ...] | None = None
    maximum: tuple[int, ...] | None = None
    tf32: bool = False
    """Let float32 layers round what they multiply to 10 bits of mantissa."""
    force: bool = False
    """Build although a fitting engine is there."""

    def __post_init__(self) -> None:
        if self.optimization_level is not None and not 0 <= self.optimization_level <= MAX_LEVEL:
            raise BuildUsageError(
                f"--optimization-level {self.optimization_level} is not known. Give 0 (fast build) to {MAX_LEVEL}."
            )
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= MAX_WORKSPACE_MIB:
            raise BuildUsageError(
                f"--workspace {self.workspace_mib} cannot be. Give MiB from 1 to {MAX_WORKSPACE_MIB}."
            )

    def asked(self, profile: Profile) -> dict[str, Any]:
        """Return what makes an engine another one: part of its key."""
        return {
            "profile": profile.to_json(),
            "tf32": self.tf32,
            "optimization_level": self.optimization_level,
            "workspace_mib": self.workspace_mib,
        }

    def refuse_for_ort(self) -> None:
        """Refuse what only TensorRT can follow.

        Raises:
            BuildUsageError: one of these is set.
        """
        given = {
            "--workspace": self.workspace_mib is not None,
            "--optimization-level": self.optimization_level is not None,
            "--min, --opt, --max": bool(self.minimum or self.optimum or self.maximum),
            "--tf32": self.tf32,
        }
        wrong = [name for name, is_set in given.items() if is_set]
        if wrong:
            raise BuildUsageError(
                f"{', '.join(wrong)} is for TensorRT, and --backend ort runs the ONNX file as it is. Leave it out."
            )


def profile_for(name: str, shape: Sequence[int], declared: "Profile | None", options: BuildOptions) -> Profile:
    """Return the sizes to build for.

    Args:
        name: of the file, for messages.
        shape: of the file's input, -1 where it takes any size.
        declared: what the bundle says of the open sizes.
        options: may say otherwise where sizes are open.

    Raises:
        BuildUsageError: shapes are given for a file of fixed size, are missing, or do not fit the file.
        RunnerError: a shape takes over 8 GiB.
    """
    fixed, given = tuple(shape), (options.minimum, options.optimum, options.maximum)
    if all(size > 0 for size in fixed):
        if any(given):
            raise BuildUsageError(
                f"{name} takes {show_shape(fixed)} alone, so --min, --opt and --max have no use. Leave them out."
            )
        return Profile(fixed, fixed, fixed)
    if any(given) and not all(given):
        raise BuildUsageError("--min, --opt and --max go together. Give all three, such as 1x3x512x1024.")
    profile = Profile(*given) if all(given) else declared  # pyright: ignore[reportArgumentType]  none of them is None
    if profile is None:
        raise BuildUsageError(
            f"{name} takes {show_shape(tuple(None if size < 0 else size for size in fixed))}, and the bundle does not "
            "say which sizes to build for. Give --min, --opt and --max."
        )
    _check(name, fixed, profile)
    return profile


def _check(name: str, shape: tuple[int, ...], profile: Profile) -> None:
    shapes = (profile.minimum, profile.optimum, profile.maximum)
    if any(len(each) != len(shape) for each in shapes):
        raise BuildUsageError(f"{name} has {len(shape)} axes, and the sizes to build for do not. Give one each.")
    for axis, size in enumerate(shape):
        low, best, high = (each[axis] for each in shapes)
        fits = (low, best, high) == (size,) * 3 if size > 0 else 1 <= low <= best <= high
        if not fits:
            wanted = f"{size} three times" if size > 0 else "1 <= min <= opt <= max"
            raise BuildUsageError(f"Axis {axis} of the sizes is {low}, {best}, {high}; {name} asks for {wanted}.")
    check_memory(profile.maximum, name)
