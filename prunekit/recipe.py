"""The recipe: every setting of a training run, read once from TOML and flags, unknown keys refused."""

from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import ValidationError

from prunekit.errors import ConfigError
from prunekit.recipe_sections import IMAGENET_MEAN as IMAGENET_MEAN
from prunekit.recipe_sections import IMAGENET_STD as IMAGENET_STD
from prunekit.recipe_sections import MAX_COUNT as MAX_COUNT
from prunekit.recipe_sections import MAX_THREADS as MAX_THREADS
from prunekit.recipe_sections import DataConfig as DataConfig
from prunekit.recipe_sections import ModelConfig as ModelConfig
from prunekit.recipe_sections import Section as Section
from prunekit.recipe_sections import SelectionConfig as SelectionConfig
from prunekit.recipe_sections import TrainConfig as TrainConfig
from prunekit.recipe_values import Text as Text
from prunekit.tomltext import parse_toml
from prunekit.validation import Namer, dotted, sentences
from prunekit_runtime.jsonfile import read_bounded
from prunekit_runtime.near import near_path

MAX_RECIPE_BYTES: Final = 1 << 16


class Recipe(Section):
    """All settings of a run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    selection: SelectionConfig = SelectionConfig()


def parse_recipe(values: dict[str, Any], *, source: str = "The recipe", named: Namer = dotted) -> Recipe:
    """Check `values` and fill in every default.

    Args:
        values: section by section.
        source: what the values are from, for a message; empty where `named` says it all.
        named: returns what a user knows a setting by.

    Raises:
        ConfigError: a key is unknown or a value out of range; the message names each.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        told = sentences(error, Recipe, named=named)
        if not source:
            raise ConfigError("\n".join(told)) from None
        between = " " if len(told) == 1 else "\n  "
        raise ConfigError(f"{source} cannot be followed:{between}" + "\n  ".join(told)) from None


def read_recipe(path: Path, overrides: dict[str, Any] | None = None, *, named: Namer = dotted) -> Recipe:
    """Read a TOML recipe; `overrides` maps "section.key" to a value and wins over the file.

    Raises:
        ConfigError: the file is missing, too large, not TOML, or holds what `parse_recipe` refuses.
    """
    return parse_recipe(merge(read_toml(path), overrides or {}), source=f"Recipe {path}", named=named)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of bounded size.

    Raises:
        ConfigError: the file is missing, over 64 KiB, or not TOML.
    """
    if not path.is_file():
        raise ConfigError(
            f"Recipe {path} does not exist.{near_path(path)} Name a TOML file, or leave --recipe out for the defaults."
        )
    try:
        content = read_bounded(path, MAX_RECIPE_BYTES)
    except ValueError as error:
        raise ConfigError(f"Recipe {path} cannot be read: {error}. Is it a recipe?") from None
    try:
        return parse_toml(content.decode("utf-8"))
    except ValueError as error:
        raise ConfigError(f"Recipe {path} is not TOML: {error}. Correct it, or name another recipe.") from None


def merge(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with dotted `overrides` ("train.epochs") set; neither argument changes.

    Raises:
        ConfigError: an override has no section, or the section holds a plain value.
    """
    merged = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in values.items()}
    for name, value in overrides.items():
        section, dot, key = name.partition(".")
        keys = merged.setdefault(section, {})
        if not dot or not isinstance(keys, dict):
            raise ConfigError(f"Setting {name!r} names no section and key. Write it like train.epochs.")
        keys[key] = value
    return merged


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as TOML, every default filled in."""
    return tomli_w.dumps(recipe.model_dump())
