"""How an error writes an option: the flag on the command line, the argument in Python."""

import contextvars
from collections.abc import Generator
from contextlib import contextmanager

_IN_PYTHON: "contextvars.ContextVar[bool]" = contextvars.ContextVar("in_python", default=False)


def spelled(flag: str, argument: str) -> str:
    """Return what the caller can write: `argument` inside a call from Python, else `flag`."""
    return argument if _IN_PYTHON.get() else flag


@contextmanager
def in_python() -> Generator[None, None, None]:
    """Let errors name the arguments of Python; decorates the functions that `import prunekit` offers."""
    token = _IN_PYTHON.set(True)
    try:
        yield
    finally:
        _IN_PYTHON.reset(token)


def option(name: str, value: object) -> str:
    """Return an option of the same name in both, with a value: `--align 1`, or `align=1`."""
    return spelled(f"--{name} {value}", f"{name}={value!r}")
