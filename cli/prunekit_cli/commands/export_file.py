"""The part of `prunekit export` that takes an ONNX file of another tool."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.options import common as options
from prunekit_cli.options.common import OptionError
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit_export.foreign import FileConfig, FileOutcome
    from prunekit_export.workflow import ExportConfig
    from prunekit_runtime.preprocessing import Preprocessing

OutputName = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="Output of the ONNX file that holds the logits or the mask.",
        show_default="the only one",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Mean of the three channels after --scale, as the ONNX file expects it.",
        show_default="ImageNet's; 0 for uint8 images",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Standard deviation of the three channels.",
        show_default="ImageNet's; 1 for uint8 images",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(metavar="rgb|bgr", help="Channel order that the ONNX file expects.", show_default="rgb"),
]
Scale = Annotated[
    float | None,
    typer.Option(
        metavar="NUMBER",
        help="Factor for pixel values of 0 to 255, applied before --mean and --std.",
        show_default="1/255; 1 for uint8 images",
    ),
]
# What a file of another tool can be asked for; all else needs the network or its data.
_TAKEN = frozenset({"trt", "tf32", "height", "width"})


@dataclass(frozen=True)
class FileOptions:
    """Options that only an ONNX file of another tool takes; None where one was not given."""

    output: str | None
    mean: str | None
    std: str | None
    channels: str | None
    scale: float | None

    def refuse(self) -> None:
        """Refuse all of it, as a run knows its own.

        Raises:
            OptionError: something was said.
        """
        given = [f"--{name}" for name, value in vars(self).items() if value is not None]
        if given:
            raise OptionError(f"{', '.join(given)} is about an ONNX file; a run knows its own. Leave it out.")

    @staticmethod
    def refuse_of_runs(*, root: str | None, trust_code: bool) -> None:
        """Refuse options about a run's data and code, which a file has none of.

        Raises:
            OptionError: one was given.
        """
        given = [flag for flag, value in (("--root", root), ("--trust-code", trust_code)) if value]
        if given:
            raise OptionError(f"{', '.join(given)} is about a run, and an ONNX file is exported. Leave it out.")

    def config(self, asked: "ExportConfig") -> "FileConfig":
        """Return how the file is taken.

        Raises:
            OptionError: a value is none, or something is asked for that needs a run.
        """
        from prunekit_export.foreign import FileConfig
        from prunekit_export.workflow import ExportConfig

        usual = ExportConfig()
        names = [field.name for field in dataclasses.fields(asked) if field.name not in _TAKEN]
        refused = [name for name in names if getattr(asked, name) != getattr(usual, name)]
        if refused:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
            raise OptionError(
                f"{flags} needs a run: an ONNX file is exported as float32, at its own size. Leave that out."
            )
        order = None if self.channels is None else options.one_of("--channels", self.channels.lower(), ("rgb", "bgr"))
        return FileConfig(
            output=self.output,
            height=asked.height,
            width=asked.width,
            mean=_triple("--mean", self.mean),
            std=_triple("--std", self.std),
            scale=self.scale,
            channels=order or "rgb",
            trt=asked.trt,
            tf32=asked.tf32,
        )


def export(path: Path, asked: "ExportConfig", told: FileOptions, out: Path | None, *, as_json: bool) -> None:
    """Export the file and show what was written.

    Raises:
        PrunekitError: it cannot be exported so.
    """
    from prunekit_export.foreign import export_file
    from prunekit_export.staging import free_folder

    config = told.config(asked)
    folder = free_folder(path.with_name(f"{path.stem}-export")) if out is None else out
    with Progress() as progress:
        outcome = export_file(path, config, folder, progress.stage)
    if as_json:
        output.show_json(outcome)
    else:
        _show(outcome)


def _show(outcome: "FileOutcome") -> None:
    sizes = [(str(path), formats.file_size(path.stat().st_size)) for path in outcome.files]
    output.show(Table("Files", ("file", "size"), sizes))
    for step in outcome.steps:
        output.result(f"Changed: {step}")
    error = "" if outcome.max_rel is None else f"relative error {outcome.max_rel:.1e}, "
    output.result(
        f"Against {outcome.source.name} in ONNX Runtime: {error}the same label on "
        f"{100 * outcome.label_agreement:.3f} % of the pixels"
    )
    output.result(_images(outcome.contract, takes_bytes=outcome.takes_bytes))
    if outcome.engine is not None:
        output.result(f"Engine: {outcome.engine.statement}; TF32 is {'on' if outcome.engine.tf32 else 'off'}")
    path = outcome.onnx.path
    output.say(f"Next: prunekit profile {path}")


def _images(contract: "Preprocessing", *, takes_bytes: bool) -> str:
    size = f"Images: {contract.height}x{contract.width}, {contract.channel_order}"
    if takes_bytes:
        return f"{size}, pixel values of 0 to 255, which the file prepares itself"
    return (
        f"{size}, scale {contract.scale:.6g}, mean {_shown(contract.mean)}, std {_shown(contract.std)}. The file does "
        "not say how its images were prepared: check these, or give --scale, --mean, --std and --channels"
    )


def _shown(values: tuple[float, float, float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _triple(flag: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{flag} takes three numbers with commas between, such as .5,.5,.5; got {text!r}.") from None
    return first, second, third
