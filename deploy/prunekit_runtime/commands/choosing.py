"""Which models of a bundle a command is about."""

from collections.abc import Sequence
from typing import Any

from prunekit_runtime.errors import BuildUsageError

ALL = "all"


def chosen(entries: Sequence[Any], precision: str) -> list[Any]:
    """Return the models of a precision, or all.

    Raises:
        BuildUsageError: there is none.
    """
    found = [entry for entry in entries if precision in (ALL, entry.precision)]
    if not found:
        held = ", ".join(sorted({entry.precision for entry in entries})) or "none"
        raise BuildUsageError(f"The bundle has no model of --precision {precision}. It has: {held}.")
    return found
