"""How a call says how far it is: nothing unless asked, a line of text, or a function of the caller's own."""

import sys
from collections.abc import Callable
from typing import TextIO

from prunekit.progress import Progress as Progress


class ProgressLine:
    """What `progress=True` stands for: one line of text a step, on the standard error stream or any other.

    A step in parts is counted on its line where that can be written over, in a terminal and in a notebook; elsewhere
    it is told once.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = sys.stderr if file is None else file
        self._counts = self._file.isatty() or "ipykernel" in sys.modules
        self._open = ""

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Write the step."""
        last = done >= total
        if self._counts:
            begun = "\n" if self._open not in ("", step) else "\r"
            self._file.write(f"{begun}{step}" + (f" {done}/{total}" if total else "") + ("\n" if last else ""))
        elif self._open != step:
            self._file.write(f"{step}\n")
        self._open = "" if last else step
        self._file.flush()


def told_by(progress: bool | Progress) -> Progress:
    """Return what is to be told: nobody, a line of text, or the caller's own function."""
    if isinstance(progress, bool):
        return ProgressLine() if progress else _nobody
    return progress


def stages_of(progress: bool | Progress) -> Callable[[str], None]:
    """Return what takes the name of a step alone."""
    tell = told_by(progress)
    return lambda step: tell(step, 0, 0)


def _nobody(_step: str, _done: int, _total: int, /) -> None:
    """Say nothing."""
