"""JSON of unknown origin, within bounds: size, depth, numbers. Everything that prunekit reads as JSON passes here."""

import json
import math
from pathlib import Path
from typing import Any, cast

MAX_DEPTH = 32
MAX_DIGITS = 18  # of a whole number: it fits 64 bits, and arithmetic with it overflows nowhere


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a whole file.

    Raises:
        OSError: the system refuses.
        ValueError: it is no file, or larger than `max_bytes`; the message is a reason to be put after the name.
    """
    if path.exists() and not path.is_file():  # a pipe or a device has no size, and may have no end
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is larger, and at most {max_bytes} bytes are read")
    return content


def parse_json(content: "bytes | str") -> Any:
    """Read a JSON document as plain values.

    Raises:
        ValueError: it is no JSON in UTF-8, is nested deeper than 32 levels, or holds a number outside 64 bits, nan or
            infinity; the message is a reason.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        value: Any = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_constant)
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in _children(node) if isinstance(child, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _children(node: Any) -> "list[Any]":
    if isinstance(node, dict):
        return list(cast("dict[str, Any]", node).values())
    return cast("list[Any]", node) if isinstance(node, list) else []


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits: {text[:20]}...")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
