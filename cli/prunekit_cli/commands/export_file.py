"""The part of `prunekit export` that takes an ONNX file of another tool."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.options import common as options
from prunekit_cli.options.common import OptionError
from prunekit_cli.showing import export_report as reports
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit_export.foreign import FileConfig, FileOutcome, Lowering
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
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Data set that another precision of an ONNX file is calibrated and judged on: {options.DATA_SETS}. "
        "Without it --root is a folder of pictures, and the labels of the float32 file are the measure.",
    ),
]
Classes = Annotated[
    str | None, typer.Option(metavar="FILE", help="Class list of the folder data set: TOML, text or CSV.")
]
# What a file of another tool can be asked for; all else needs the network.
_TAKEN = frozenset(
    {"trt", "engine", "profile", "height", "width", "precision", "images", "keep_fp32", "calibration", "max_miou_drop"}
)


@dataclass(frozen=True)
class FileOptions:
    """Options that only an ONNX file of another tool takes; None where one was not given."""

    output: str | None
    mean: str | None
    std: str | None
    channels: str | None
    scale: float | None
    data: str | None = None
    classes: str | None = None
    set: tuple[str, ...] | None = None

    def refuse(self) -> None:
        """Refuse all of it, as a run knows its own.

        Raises:
            OptionError: something was said.
        """
        given = [f"--{name}" for name, value in vars(self).items() if value is not None]
        if given:
            raise OptionError(f"{', '.join(given)} is about an ONNX file; a run knows its own. Leave it out.")

    def config(self, asked: "ExportConfig", root: str | None) -> "FileConfig":
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
                f"{flags} needs a run: an ONNX file is exported as it is, at its own size. Leave that out."
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
            engine=asked.engine,
            profile=asked.profile,
            lowering=self._lowering(asked, root),
        )

    def _lowering(self, asked: "ExportConfig", root: str | None) -> "Lowering | None":
        from prunekit_export.foreign import Lowering

        named = {"data.name": self.data, "data.root": root, "data.classes": self.classes}
        flags, settings = options.given(named), options.parse_settings(list(self.set or ()))
        options.only_section("data", settings)
        if asked.precision == "fp32":
            if flags or settings:
                said = ", ".join([f"--{name.removeprefix('data.')}".replace("--name", "--data") for name in flags])
                raise OptionError(
                    f"{said or '--set'} is about images that another precision is calibrated on. Add --precision fp16, "
                    "or leave it out."
                )
            return None
        has_data = "data.name" in settings | flags
        if not has_data and (self.classes or settings):
            raise OptionError("--classes and --set say how a data set is read. Name it too: --data folder")
        return Lowering(
            precision=asked.precision,
            data=options.recipe_of(None, flags, settings).data if has_data else None,
            pictures=Path(root) if root and not has_data else None,
            images=asked.images,
            keep_fp32=asked.keep_fp32,
            calibration=asked.calibration,
            max_drop=asked.max_miou_drop / 100,
        )


def export(
    path: Path, asked: "ExportConfig", told: FileOptions, root: str | None, out: Path | None, *, as_json: bool
) -> None:
    """Export the file and show what was written.

    Raises:
        PrunekitError: it cannot be exported so.
    """
    from prunekit_export.foreign import export_file
    from prunekit_export.staging import free_folder

    config = told.config(asked, root)
    folder = free_folder(path.with_name(f"{path.stem}-export")) if out is None else out
    with Progress() as progress:
        outcome = export_file(path, config, folder, progress.stage, progress.advance)
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
    if outcome.half is not None and outcome.half.cost is not None:
        output.result(reports.cost(outcome.half.cost))
    if outcome.int8 is not None:
        reports.show_int8(outcome.int8.report)
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
