"""What `prunekit --version` prints: ours, and what the results depend on, without importing any of it."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

TRIED: Final[dict[str, tuple[str, str] | None]] = {
    "python": ("3.11", "3.11"),
    "torch": ("2.11", "2.14"),
    "torchvision": ("0.26", "0.29"),
    "numpy": ("1.26", "2.4"),
    "onnx": ("1.18", "1.23"),
    "onnxruntime": ("1.22", "1.32"),
    "tensorrt": None,
    "tensorrt_rtx": ("1.7", "1.7"),
}
"""Oldest and newest release that the tests ran with (docs/architecture.md, Versions); None: none, for want of a GPU."""

_DISTRIBUTIONS: Final[dict[str, tuple[str, ...]]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
"""What a package is installed by, where that is not its name."""


def lines() -> Iterator[str]:
    """Yield one line for prunekit and one for each package that is there, with the range that was tried."""
    from prunekit import __version__

    yield f"prunekit {__version__}"
    for name, tried in TRIED.items():
        found = platform.python_version() if name == "python" else _installed(name)
        if found is not None:
            yield f"{name} {found} ({_word(found, tried)})"


def _word(found: str, tried: tuple[str, str] | None) -> str:
    if tried is None:
        return "no release was tried"
    oldest, newest = tried
    between = oldest if oldest == newest else f"{oldest} to {newest}"
    return f"tried: {between}" if _is_within(found, oldest, newest) else f"not tried; tried: {between}"


def _installed(name: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def _is_within(found: str, oldest: str, newest: str) -> bool:
    """Compare as many places as the bounds have: 2.14.1+cpu is within 2.11 to 2.14."""
    upper = _numbers(newest)
    return _numbers(oldest) <= _numbers(found) and _numbers(found)[: len(upper)] <= upper


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
