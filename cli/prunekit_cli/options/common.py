"""Options that several commands share, and how their texts become settings."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunekit.tomltext import parse_toml, shown
from prunekit_runtime.errors import UsageError
from prunekit_runtime.near import did_you_mean

if TYPE_CHECKING:
    from prunekit.recipe import Recipe

_FLAGS = {
    "data.name": "--data",
    "data.pixel_scale": "--scale",
    "data.height": "--size",
    "data.width": "--size",
    "model.name": "--model",
    "model.weights_part": "--part",
    "selection.strategy": "--select",
    "selection.ratio": "--select-ratio",
}
"""Options that are not called like the setting they are for."""
MAX_SIDE = 1 << 14  # px, as in the preprocessing contract
MAX_CLASSES = 1 << 16


class OptionError(UsageError):
    """An option, or two together, cannot be followed."""


RunArgument = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Run directory.", show_default="newest finished run under runs/")
]
AnyRunArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="Run directory, finished or not.", show_default="last written under runs/"),
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


def recipe_of(path: Path | None, flags: dict[str, Any], settings: dict[str, Any]) -> "Recipe":
    """Return the recipe that a file, --set and the options make: an option wins over --set, and that over the file.

    Args:
        path: the file; None takes the defaults.
        flags: "section.key" of the options that were given.
        settings: the same of --set.

    Raises:
        ConfigError: they cannot be followed; a setting is named as it was typed.
    """
    from prunekit.recipe import merge, parse_recipe, read_recipe
    from prunekit.validation import dotted

    def named(loc: tuple[int | str, ...]) -> str:
        setting = ".".join(map(str, loc[:2]))
        if setting in flags:
            return flag_of(setting)
        return f"--set {dotted(loc)}" if setting in settings else dotted(loc)

    overrides = settings | flags
    if path is not None:
        return read_recipe(path, overrides, named=named)
    return parse_recipe(merge({}, overrides), source="", named=named)


def flag_of(setting: str) -> str:
    """Return the option that sets "section.key"."""
    return _FLAGS.get(setting, "--" + setting.partition(".")[2].replace("_", "-"))


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value`.

    Raises:
        OptionError: it is none of `choices`.
    """
    if value not in choices:
        listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise OptionError(f"{option} takes {listed}, got {shown(value)}.{did_you_mean(value, choices)}")
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
