"""A data set of a user's own by name, python:package.module:Class: whether its code may run, and where it is."""

import difflib
import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from prunekit.errors import DataError, DataUsageError, UntrustedCodeError
from prunekit.recipe import DataConfig
from prunekit.recipe_values import OWN_DATA

HOW: Final = "class Street:  def __init__(self, root, split), __len__, __getitem__, classes"


def is_own(config: DataConfig) -> bool:
    """Tell whether a data set is a class of somebody's."""
    return config.name.startswith(OWN_DATA)


def check_trusted(config: DataConfig, named_by: Path) -> None:
    """Refuse a data set that a file names and whose code prunekit does not bring; nothing is imported.

    Args:
        config: the data set.
        named_by: the file, for the message.

    Raises:
        UntrustedCodeError: it is a class of somebody's.
    """
    if is_own(config):
        raise UntrustedCodeError(f"{named_by}: {untrusted(config)}")


def untrusted(config: DataConfig) -> str:
    """Return the clause that refuses a data set's code."""
    return f"The data set {config.name!r} runs code that prunekit does not bring"


def find_class(name: str) -> Callable[..., Any]:
    """Import what python:package.module:Class names: a class, or a function that returns a data set.

    Raises:
        DataError: the module cannot be imported, or defines no such thing.
    """
    module_name, _, attribute = name.removeprefix(OWN_DATA).partition(":")
    module = _module(module_name)
    found = getattr(module, attribute, None)
    # Only what the module itself defines: an import inside it is not an offer.
    if callable(found) and getattr(found, "__module__", None) == module_name:
        return found
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
    near = difflib.get_close_matches(attribute, own, 1)
    hint = f" Is it {near[0]}?" if near else ""
    raise DataUsageError(f"{module_name} defines no data set {attribute!r}.{hint} It is a class: {HOW}.")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataUsageError(
            f"{name} cannot be imported ({error}). Install it, or set PYTHONPATH to its folder."
        ) from error
    except Exception as error:
        raise DataError(f"{name} fails while it is imported: {failure(error)}. Mend it.") from error


def failure(error: Exception) -> str:
    """Return what went wrong in a user's code, and in which of its lines."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else text


def _is_theirs(filename: str) -> bool:
    return Path(__file__).parents[2] not in Path(filename).parents and not filename.startswith("<frozen")
