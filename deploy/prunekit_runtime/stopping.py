"""SIGTERM and SIGHUP as Ctrl-C: what was begun is cleared up, and the exit code says which of them it was."""

import os
import signal
import sys
import time
from types import FrameType
from typing import Any, Optional

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_ONCE_S = 2.0  # a terminal that closes sends SIGHUP twice, its own and the shell's, and the second must not cut short
_AGAIN_S = 0.05


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Stopper:
    """Raises where a signal finds the program, and again where that was in a place that swallows what is raised."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._last_s = -_ONCE_S
        self._lost: BaseException = KeyboardInterrupt()
        self._report = sys.unraisablehook

    def stop(self, number: int, _: Optional[FrameType]) -> None:
        if os.getpid() != self._process:  # a process that loads data, which inherits this until it has its own
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now_s = time.monotonic()
        if now_s - self._last_s >= _ONCE_S:
            self._last_s = now_s
            raise Stopped(number)

    def unraisable(self, found: Any) -> None:
        """Take up what Python drops: what a signal raises in a finaliser, or in a hook of fork()."""
        if not isinstance(found.exc_value, KeyboardInterrupt) or os.getpid() != self._process:
            self._report(found)
            return
        self._lost = found.exc_value
        signal.signal(signal.SIGALRM, self._again)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)  # later, since this place drops it too

    def _again(self, _number: int, _: Optional[FrameType]) -> None:
        raise self._lost


def stop_on_signals() -> None:
    """Raise `Stopped` in this process when SIGTERM or SIGHUP comes; one that is ignored, as by nohup, stays so."""
    stopper = _Stopper()
    sys.unraisablehook = stopper.unraisable
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stopper.stop)


def stop_code(stop: KeyboardInterrupt) -> int:
    """Return what shells expect of a process that a signal ended: 128 and the signal's number."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def stop_sentence(stop: KeyboardInterrupt) -> str:
    """Return "Interrupted.", with the signal's name unless it was Ctrl-C."""
    return f"Interrupted by {stop}." if isinstance(stop, Stopped) else "Interrupted."
