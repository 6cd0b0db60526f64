"""What a build is asked for besides its sizes, and how each of it is said to a builder.

What a builder does not take is refused: TensorRT-RTX only warns of some options and builds on without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prunekit_export.errors import EngineUsageError
from prunekit_runtime.spelling import spelled

if TYPE_CHECKING:
    from pathlib import Path

    from prunekit_export.engine.report import Package

# RTX 30, 40 and 50 series.
DEFAULT_TARGETS = ("SM86", "SM89", "SM120")
MAX_LEVEL = 5
MAX_WORKSPACE_MIB = 1 << 20
_MAX_CACHE_BYTES = 1 << 30
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How to build; None leaves it to TensorRT."""

    package: Package | Literal["auto"] = "auto"
    """auto takes TensorRT where it and a GPU are, else TensorRT-RTX."""
    targets: tuple[str, ...] = DEFAULT_TARGETS
    """Compute capabilities that TensorRT-RTX compiles for ahead of time, SM75 to SM121."""
    tf32: bool = False
    """Let float32 layers round what they multiply to 10 bits, as TensorRT does unless it is told not to."""
    workspace_mib: int | None = None
    """Memory that kernels may use for intermediate results [MiB]."""
    optimization_level: int | None = None
    """0 builds fastest, 5 looks longest for fast kernels; TensorRT's own is 3."""
    timing_cache: Path | None = None
    """File of kernel timings, read if it is there and written; later builds on the same GPU are faster."""
    version_compatible: bool = False
    """Let later versions of TensorRT run the engine, with the lean runtime inside it."""
    hardware_compatible: bool = False
    """Let every GPU from Ampere on run the engine; it may be slower."""
    refit: bool = False
    """Let the weights be replaced later."""

    def __post_init__(self) -> None:
        if self.package not in ("auto", "tensorrt", "tensorrt_rtx"):
            raise EngineUsageError(
                f"{spelled('--package', 'package')} takes auto, tensorrt or tensorrt_rtx; got {self.package!r}."
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= MAX_LEVEL:
            raise EngineUsageError(
                f"{spelled('--optimization-level', 'optimization_level')} is 0 (fast build) to {MAX_LEVEL}; "
                f"got {self.optimization_level}."
            )
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= MAX_WORKSPACE_MIB:
            raise EngineUsageError(
                f"{spelled('--workspace', 'workspace_mib')} is 1 to {MAX_WORKSPACE_MIB} MiB; got {self.workspace_mib}."
            )
        if not self.targets:
            raise EngineUsageError(f"{spelled('--target', 'targets')} names no GPU. Give one, such as SM86.")

    def to_json(self) -> dict[str, Any]:
        """Return what makes the engine another one, as a JSON object."""
        return {
            "workspace_mib": self.workspace_mib,
            "optimization_level": self.optimization_level,
            "timing_cache": self.timing_cache is not None,
            "version_compatible": self.version_compatible,
            "hardware_compatible": self.hardware_compatible,
            "refit": self.refit,
        }


USUAL = EngineOptions()


def apply_(trt: Any, config: Any, options: EngineOptions) -> None:
    """Say the options to a builder configuration, and read back that it took them.

    Raises:
        EngineUsageError: this package does not have one of them, or the timing cache cannot be read.
    """
    if options.workspace_mib is not None:
        pool = trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, options.workspace_mib * _MIB)
        _taken(trt, "--workspace", config.get_memory_pool_limit(pool) == options.workspace_mib * _MIB)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
        _taken(trt, "--optimization-level", config.builder_optimization_level == options.optimization_level)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        _taken(trt, "--version-compatible", config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE))
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
        _taken(trt, "--refit", config.get_flag(trt.BuilderFlag.REFIT))
    if options.hardware_compatible:
        level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        config.hardware_compatibility_level = level
        _taken(trt, "--hardware-compatible", config.hardware_compatibility_level == level)
    if options.timing_cache is not None:
        # RTX keeps the call and does nothing: it times kernels on the machine that runs them.
        _taken(trt, "--timing-cache", trt.__name__ != "tensorrt_rtx")
        _add_cache_(trt, config, options.timing_cache)


def timings(config: Any) -> bytes:
    """Return the timing cache after a build."""
    return bytes(config.get_timing_cache().serialize())


def _add_cache_(trt: Any, config: Any, path: Path) -> None:
    content = b""
    if path.exists():
        if not path.is_file() or path.stat().st_size > _MAX_CACHE_BYTES:
            raise EngineUsageError(f"The timing cache {path} is no file of up to 1 GiB. Name another.")
        content = path.read_bytes()
    cache = config.create_timing_cache(content)
    # One of another version or GPU is refused; TensorRT would build without it.
    if cache is None or not config.set_timing_cache(cache, False):
        raise EngineUsageError(
            f"{trt.__name__} {trt.__version__} does not take the timing cache {path}: it is of another version or GPU. "
            "Name a new file."
        )


def _taken(trt: Any, option: str, taken: bool) -> None:
    if not taken:
        word = option.removeprefix("--").replace("-", "_")
        raise EngineUsageError(
            f"{trt.__name__} {trt.__version__} does not have {spelled(option, word)}. Leave it out, or build with "
            f"another package ({spelled('--package', 'package')})."
        )
