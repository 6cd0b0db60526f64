"""Where a run's data lies, though the run, the data or both may move.

A run keeps each path twice: absolute, which holds when the run moves, and as seen from the run's folder, which holds
when both move together.
"""

import os
from pathlib import Path
from typing import Any, Final

from prunekit.recipe import Recipe

PATHS: Final = ("root", "classes")


def anchored(recipe: Recipe, folder: Path) -> Recipe:
    """Return a recipe as it is kept in the run `folder`: its paths absolute, and as seen from there."""
    update: dict[str, str] = {}
    for name in PATHS:
        path = getattr(recipe.data, name)
        if path:
            update |= {name: os.path.abspath(path), f"{name}_from_run": os.path.relpath(path, folder)}
    update = {name: path for name, path in update.items() if _is_text(path)}
    weights = os.path.abspath(recipe.model.weights) if recipe.model.weights else ""
    if weights and _is_text(weights):
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": weights})})
    return _with_data(recipe, update)


def located(recipe: Recipe, folder: Path) -> Recipe:
    """Return a recipe read from the run `folder` with the paths that exist: what is gone is looked for from there."""
    update: dict[str, str] = {}
    for name in PATHS:
        path, near = getattr(recipe.data, name), getattr(recipe.data, f"{name}_from_run")
        # os.path, since Path raises where a name is too long to be one.
        if path and near and not os.path.exists(path) and os.path.exists(folder / near):
            update[name] = os.path.abspath(folder / near)
    return _with_data(recipe, update)


def overriding(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return `overrides` of a kept recipe such that a path among them replaces both of its forms."""
    forgotten = {f"data.{name}_from_run": "" for name in PATHS if f"data.{name}" in overrides}
    return forgotten | overrides


def root_override(root: str | None) -> dict[str, Any]:
    """Return what a --root option overrides."""
    return {} if root is None else {"data.root": root}


def _is_text(path: str) -> bool:
    """Tell whether TOML can hold a path: the folder above may have a name that is no UTF-8."""
    return not any("\ud800" <= part <= "\udfff" for part in path)


def _with_data(recipe: Recipe, update: dict[str, str]) -> Recipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=update)}) if update else recipe
