"""TOML of unknown origin, within bounds: every failure is a ValueError with a reason, every value can be shown."""

import tomllib
from typing import Any, Final

MAX_INTEGER: Final = 1 << 63
"""TOML's own bound; beyond it Python would go on, until a number has too many digits to be shown."""
MAX_DEPTH: Final = 16
MAX_DOTS: Final = 100
"""On one line. The standard library's reader takes a minute for a key of 30 000 parts."""
_SHOWN_CHARACTERS: Final = 200


def parse_toml(text: str) -> dict[str, Any]:
    """Read a TOML document.

    Raises:
        tomllib.TOMLDecodeError: it is not TOML; a ValueError, as the following.
        ValueError: it is nested deeper than 16 levels, or holds a whole number outside 64 bits.
    """
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {MAX_DOTS} dots")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check(values, MAX_DEPTH)
    return values


def shown(value: object) -> str:
    """Return a value as an error shows it: at most some 200 characters."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"{type(value).__name__} of many digits"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        for child in value.values() if isinstance(value, dict) else value:
            _check(child, depth - 1)
    elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise ValueError("a whole number is outside 64 bits")
