"""What a long command is doing: one line that is written over on a terminal, else a line now and then."""

import re
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from prunekit_runtime.predicting.job import Tally
from prunekit_runtime.predicting.labelling import told
from prunekit_runtime.text import printable, printable_name

_REDRAW_S = 0.1
_QUIET_S = 10.0  # between lines of a file or a pipe, unless another phase begins
_NUMBERS = re.compile(r"\b\d+(?:\.\d+)?(?:/\d+)?\b")  # what changes within a phase


class StepLine:
    """Shows a text that changes often, with the seconds since the first of them."""

    def __init__(self, stream: TextIO | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._now_s = now_s
        self._is_terminal = self._stream.isatty()
        self._start_s = self._shown_s = float("-inf")
        self._phase = ""
        self._is_open = False

    def __call__(self, text: str) -> None:
        """Show what is being done."""
        now_s = self._now_s()
        if self._start_s == float("-inf"):
            self._start_s = now_s
        phase = _NUMBERS.sub("", text)
        due = self._shown_s + (_REDRAW_S if self._is_terminal else _QUIET_S)
        if now_s < due and (self._is_terminal or phase == self._phase):
            return
        self._phase, self._shown_s = phase, now_s
        self._write(f"{now_s - self._start_s:5.0f} s  {printable_name(text)}")

    def close(self) -> None:
        """Take the line away, so that what comes next starts at its place."""
        if self._is_open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_open = False

    def _write(self, line: str) -> None:
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{line[:width]}")
            self._is_open = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


class Complaints:
    """Says why a picture has no labels, as soon as that is known."""

    def __init__(self, line: StepLine | None = None) -> None:
        self._line = line
        self._said = 0

    def __call__(self, tally: Tally) -> None:
        """Say what was not said yet."""
        if self._line is not None and self._said < len(tally.failed):
            self._line.close()
        for name, reason in tally.failed[self._said :]:
            sys.stderr.write(printable(f"No result: {told(name, reason)}\n"))
        self._said = len(tally.failed)
