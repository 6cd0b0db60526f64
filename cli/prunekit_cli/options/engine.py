"""Options that say how an engine is built."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.options.common import OptionError

if TYPE_CHECKING:
    from prunekit_export.engine import EngineOptions, Profile

_SIZES = "{} size that the engine takes, where the file leaves sizes open, such as 1x3x512x1024."
MinOption = Annotated[
    str | None,
    typer.Option(
        "--min", metavar="NxCxHxW", help=_SIZES.format("Smallest"), show_default="half of the height and width"
    ),
]
OptOption = Annotated[
    str | None,
    typer.Option("--opt", metavar="NxCxHxW", help=_SIZES.format("Usual"), show_default="one image of the input's size"),
]
MaxOption = Annotated[
    str | None,
    typer.Option("--max", metavar="NxCxHxW", help=_SIZES.format("Largest"), show_default="4 images of twice the size"),
]
WorkspaceOption = Annotated[
    int | None,
    typer.Option(
        "--workspace", metavar="MIB", help="Memory that an engine's kernels may use.", show_default="TensorRT's own"
    ),
]
LevelOption = Annotated[
    int | None,
    typer.Option(
        "--optimization-level",
        metavar="0-5",
        help="How long TensorRT looks for fast kernels; 0 builds fastest.",
        show_default="TensorRT's own, 3",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--timing-cache", metavar="FILE", help="File of kernel timings, read and written: later builds are faster."
    ),
]
PackageOption = Annotated[
    str,
    typer.Option(
        "--package",
        metavar="auto|tensorrt|tensorrt_rtx",
        help="What builds the engine; auto is TensorRT where it and a GPU are, else TensorRT-RTX.",
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="SMNN",
        help="GPU that TensorRT-RTX compiles for ahead of time, by compute capability; may be repeated.",
        show_default="SM86, SM89, SM120",
    ),
]
VersionOption = Annotated[
    bool, typer.Option("--version-compatible", help="Let later versions of TensorRT run the engine.")
]
HardwareOption = Annotated[
    bool, typer.Option("--hardware-compatible", help="Let every GPU from Ampere on run the engine.")
]
RefitOption = Annotated[bool, typer.Option("--refit", help="Let the engine's weights be replaced later.")]


def engine_options(
    package: str,
    targets: list[str] | None,
    workspace: int | None,
    level: int | None,
    cache: Path | None,
    *,
    tf32: bool,
    version_compatible: bool,
    hardware_compatible: bool,
    refit: bool,
) -> "EngineOptions":
    """Return what the options ask for.

    Raises:
        EngineUsageError: a value is unknown or out of range.
    """
    from prunekit_export.engine import DEFAULT_TARGETS, EngineOptions

    return EngineOptions(
        package=package.replace("-", "_"),  # pyright: ignore[reportArgumentType]  checked there
        targets=tuple(name.upper() for name in targets) if targets else DEFAULT_TARGETS,
        tf32=tf32,
        workspace_mib=workspace,
        optimization_level=level,
        timing_cache=cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        refit=refit,
    )


def profile(minimum: str | None, optimum: str | None, maximum: str | None) -> "Profile | None":
    """Return the sizes of --min, --opt and --max; None where they are left out.

    Raises:
        OptionError: one is no size, or one or two of them are missing.
    """
    from prunekit_export.engine import Profile

    given = {"--min": minimum, "--opt": optimum, "--max": maximum}
    if not any(given.values()):
        return None
    missing = [name for name, text in given.items() if text is None]
    if missing:
        raise OptionError(f"--min, --opt and --max go together; {', '.join(missing)} is missing.")
    return Profile(*(_shape(name, text or "") for name, text in given.items()))


def _shape(option: str, text: str) -> tuple[int, int, int, int]:
    parts = text.lower().split("x")
    if len(parts) != 4 or not all(_is_size(part) for part in parts):
        raise OptionError(f"{option} takes four sizes, such as 1x3x512x1024; got {text!r}.")
    first, second, third, fourth = map(int, parts)
    return first, second, third, fourth


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 1 << 16
