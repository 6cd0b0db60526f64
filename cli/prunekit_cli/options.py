"""Options that several commands share, and how their texts become settings."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from prunekit.tomltext import parse_toml, shown
from prunekit_runtime.errors import PrunekitError

if TYPE_CHECKING:
    from pydantic import BaseModel

ConfigT = TypeVar("ConfigT", bound="BaseModel")

MAX_SIDE = 1 << 14  # px, as in the preprocessing contract
MAX_CLASSES = 1 << 16


class OptionError(PrunekitError):
    """An option, or two together, cannot be followed."""


RunArgument = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Run directory.", show_default="newest finished run under runs/")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder to write, new or empty.", show_default="next run")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-code", help="Run the python: code that the run names. Only for runs you trust."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting of the recipe; may be repeated."),
]
# as the recipe has them
DATA_SETS = "shapes, camvid, cityscapes, ade20k, voc, voc-aug, coco-stuff, folder or python:MODULE:CLASS"
RootOption = Annotated[
    str | None,
    typer.Option("--root", metavar="DIR", help="Folder of the data set.", show_default="as the run was trained"),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="TOML recipe, see prunekit recipe.", show_default="built-in"),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to compute.", show_default="auto")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="CPU threads; 0 leaves the library's choice.", show_default="0")
]
AllowMissingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-missing",
        metavar="PATTERN",
        help="Tensors that the file of weights may lack, or have in another shape, such as 'segmentation_head.*': they "
        "begin at random. May be repeated.",
    ),
]
AllowUnexpectedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-unexpected",
        metavar="PATTERN",
        help="Tensors of the file that the network may leave out, such as 'aux_classifier.*'. May be repeated.",
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="NAME",
        help="Which mapping in the file of weights to take, such as ema.",
        show_default="the one that fits best",
    ),
]
ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="cpu|cuda|tensorrt",
        help="Where to run; exactly this, without falling back.",
        show_default="cpu; an engine has its GPU",
    ),
]
HeightOption = Annotated[
    int, typer.Option("--height", max=MAX_SIDE, help="Height of the input in pixels; 0 takes the model's own.")
]
WidthOption = Annotated[
    int, typer.Option("--width", max=MAX_SIDE, help="Width of the input in pixels; 0 takes the model's own.")
]


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, so that the library's defaults stay in the library."""
    return {key: value for key, value in values.items() if value is not None}


def parse_settings(texts: list[str] | None) -> dict[str, Any]:
    """Read "section.key=value" texts; a value is TOML where it can be and a plain text otherwise.

    Raises:
        OptionError: a text has another form.
    """
    settings: dict[str, Any] = {}
    for text in texts or []:
        dotted, equals, value = text.partition("=")
        section, dot, key = dotted.strip().partition(".")
        if not (equals and dot and section and key):
            raise OptionError(f"--set takes section.key=value, got {text!r}. Write for example --set train.lr=0.01")
        settings[dotted.strip()] = _toml_value(value.strip())
    return settings


def _toml_value(text: str) -> Any:
    try:
        parsed = parse_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text  # a bare word or a path: shapes, /data/camvid
    except ValueError as error:
        raise OptionError(f"--set cannot take {shown(text)}: {error}. Write a smaller number.") from None
    return parsed["value"] if set(parsed) == {"value"} else text


def checked(config: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """Build a settings object from the options that were given.

    Raises:
        OptionError: a value is out of range; the message names each option.
    """
    from pydantic import ValidationError

    try:
        return config.model_validate(values)
    except ValidationError as error:
        lines = [
            f"--{'-'.join(str(part) for part in e['loc'])}: {e['msg']}, got {shown(e['input'])}" for e in error.errors()
        ]
        raise OptionError("; ".join(lines).replace("_", "-")) from None


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value`.

    Raises:
        OptionError: it is none of `choices`.
    """
    if value not in choices:
        raise OptionError(f"{option} takes {', '.join(choices)}; got {value!r}.")
    return value


def only_section(section: str, overrides: dict[str, Any]) -> None:
    """Refuse settings that this command would not look at.

    Raises:
        OptionError: a setting lies outside `section`.
    """
    others = [dotted for dotted in overrides if not dotted.startswith(f"{section}.")]
    if others:
        raise OptionError(f"--set {others[0]} has no effect here; only {section}.* does. Leave it out.")


def refuse_with_resume(names: Iterable[str]) -> None:
    """Refuse options beside --resume, which goes on under the run's own settings.

    Raises:
        OptionError: there are some.
    """
    others = list(names)
    if others:
        raise OptionError(
            f"--resume goes on under the run's own settings, got also {', '.join(others)}. Leave them out."
        )
