"""Progress on stderr: a live bar in a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from prunekit_cli import formats, output
from prunekit_runtime.text import printable, printable_name

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_EVERY_S = 10.0  # a log file wants a sign of life, not a line a step
BAR_EVERY_S = 0.5


class Progress:
    """One thing at a time: what it is, how far, how fast, until when."""

    def __init__(self, *, repaint: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._repaint = repaint  # by a thread of its own, ten times a second
        self._live: RichProgress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._first = 0  # steps that were done when this one's clock began
        self._started_s = self._said_s = clock()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._live = _live_bar(repaint=self._repaint)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def stage(self, what: str) -> None:
        """Begin something whose end is not known; the stage before it is over."""
        what = printable_name(what)
        self._begin(what)
        if self._live is None:
            output.say(f"{what} ...")
        else:
            self._task = self._live.add_task(what, total=None, detail="", left="")

    def advance(self, what: str, done: int, total: int, *, detail: str = "", left_s: float | None = None) -> None:
        """Show that `done` of `total` steps of `what` are over; time left is reckoned where it is not given."""
        what, detail = printable_name(what), printable_name(detail)
        if what != self._what:
            self._begin(what, done)
        left = formats.duration(self._reckon_s(done, total) if left_s is None else left_s)
        if self._live is None:
            self._say_now_and_then(done, total, f"{what}  {done}/{total}  {detail}  {left} left")
            return
        if self._task is None:
            self._task = self._live.add_task(what, total=total, detail="", left="")
        self._live.update(self._task, completed=done, total=total, detail=detail, left=f"{left} left")
        if not self._repaint and self._clock() - self._said_s > BAR_EVERY_S:
            self._said_s = self._clock()
            self._live.refresh()

    def line(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        if self._live is None:
            output.say(text)
        else:
            self._live.console.print(printable(text))

    def table(self, table: output.Table) -> None:
        """Print a table that stays, above the bar."""
        if self._live is None:
            output.tell(table)
        else:
            self._live.console.print(output.drawn(table))

    def _begin(self, what: str, done: int = 0) -> None:
        if self._live is not None and self._task is not None:
            self._live.remove_task(self._task)
        self._task, self._what, self._first = None, what, done
        self._started_s = self._said_s = self._clock()

    def _reckon_s(self, done: int, total: int) -> float:
        timed = done - self._first
        return (self._clock() - self._started_s) / timed * (total - done) if timed > 0 else float("nan")

    def _say_now_and_then(self, done: int, total: int, text: str) -> None:
        if done < total and self._clock() - self._said_s < PLAIN_EVERY_S:
            return
        self._said_s = self._clock()
        output.say(text)


def _live_bar(*, repaint: bool) -> "RichProgress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
        console=output.console(stderr=True),
        transient=True,
        auto_refresh=repaint,
    )
