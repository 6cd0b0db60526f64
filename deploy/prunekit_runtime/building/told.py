"""What TensorRT tells while it builds: its messages, kept for errors, and how far it is. Both are called from C++.

Nothing may be raised in them: TensorRT prints what Python raises there to the terminal, and goes on.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from prunekit_runtime.text import printable_name

_KEPT = 64
_LONGEST = 400  # characters of one message
OnStep = Callable[[str], None]


class Messages:
    """Errors and warnings of TensorRT, the first and the last of them."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: deque[str] = deque(maxlen=_KEPT)

    def add(self, message: str, *, is_error: bool) -> None:
        """Keep a message, printable and in one line."""
        line = printable_name(" ".join(message.split()))[:_LONGEST]
        if not is_error:
            self.warnings.append(line)
        elif len(self.errors) < _KEPT:
            self.errors.append(line)
        else:
            self.errors[-1] = line

    def said(self) -> str:
        """Return ": reason; last messages" for the end of a sentence; the first error has the reason."""
        chosen = list(dict.fromkeys([*self.errors[:1], *self.errors[-2:]]))
        if not chosen:
            chosen = list(self.warnings)[-2:]
        return ": " + "; ".join(line.rstrip(". ") for line in chosen) if chosen else ", and TensorRT gave no reason"


def make_logger(trt: Any, messages: Messages) -> Any:
    """Return a logger of TensorRT that fills `messages`."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants its own initialiser, not super()'s

        def log(self, severity: Any, msg: str) -> None:
            known = trt.ILogger.Severity
            if severity in (known.INTERNAL_ERROR, known.ERROR):
                messages.add(msg, is_error=True)
            elif severity == known.WARNING:
                messages.add(msg, is_error=False)

    return Logger()


def make_monitor(trt: Any, on_step: OnStep, stop: threading.Event) -> Any:
    """Return a progress monitor that tells each step and ends the build when `stop` is set."""
    steps = _Steps()

    def tell() -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            on_step(steps.text())

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            steps.begin(phase_name, num_steps)
            tell()

        def phase_finish(self, phase_name: str) -> None:
            steps.end(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            steps.count(phase_name, step + 1)
            tell()
            return not stop.is_set()  # False ends the build

    return Monitor()


class _Steps:
    """The phases that TensorRT is in, outermost first."""

    def __init__(self) -> None:
        self._phases: dict[str, list[int]] = {}

    def begin(self, name: str, total: int) -> None:
        self._phases[name] = [0, total]

    def count(self, name: str, done: int) -> None:
        if name in self._phases:
            self._phases[name][0] = done

    def end(self, name: str) -> None:
        self._phases.pop(name, None)

    def text(self) -> str:
        """Return "Building engine 2/6, Timing graph nodes 12/30": the outermost and the innermost phase."""
        phases = list(self._phases.items())
        shown = phases[:1] + phases[-1:] if len(phases) > 1 else phases
        return ", ".join(f"{printable_name(name)} {done}/{total}" for name, (done, total) in shown)
