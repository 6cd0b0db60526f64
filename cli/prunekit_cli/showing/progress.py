"""Progress on stderr: in a terminal a live bar, or a spinner with the time; elsewhere a plain line now and then."""

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prunekit.progress import TimeLeft
from prunekit_cli.showing import formats, output
from prunekit_runtime.text import printable, printable_name

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_EVERY_S = 10.0  # a log file wants a sign of life, not a line a step
BAR_EVERY_S = 0.5


class Progress:
    """One thing at a time: what it is, how far, until when.

    A stage whose end is not known has a spinner and the time it has taken; steps that are counted while it lasts have a
    bar in its place, and when they are all done the stage is shown again.
    """

    def __init__(self, *, repaint: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._repaint = repaint  # by a thread of its own, ten times a second
        self._live: RichProgress | None = None
        self._task: TaskID | None = None
        self._stage, self._stage_since_s = "", clock()
        self._what, self._done = "", 0
        self._time_left = TimeLeft(clock)
        self._started_s = self._said_s = clock()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._live = _live_bar(repaint=self._repaint, clock=self._clock)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def stage(self, what: str) -> None:
        """Begin something whose end is not known; the stage before it is over."""
        self._stage, self._stage_since_s = printable_name(what), self._clock()
        self._what = ""
        if self._live is None:
            self._said_s = self._clock()
            output.say(f"{self._stage} ...")
        else:
            self._show_stage()

    def advance(
        self, what: str, done: int, total: int, *, detail: str = "", left_s: float | None = None, least: bool = False
    ) -> None:
        """Show that `done` of `total` steps of `what` are over.

        Args:
            what: the steps; another name begins anew.
            done: how many are over.
            total: how many there are; 0 for a stage that has none, and whose end is not known.
            detail: what else is known, in a few words.
            left_s: time left, reckoned by the pace of the last steps where it is not given.
            least: more is to come than the time left holds.
        """
        if not total:
            self.stage(what)
            return
        what, detail = printable_name(what), printable_name(detail)
        if what != self._what:
            self._begin(what, done)
        elif done > self._done:
            self._time_left.step(done - self._done)
            self._done = done
        left_s = self._time_left.left_s(total - done) if left_s is None else left_s
        left = f"{'> ' if least else ''}{formats.duration(left_s)} left" if math.isfinite(left_s) else ""
        self._show(done, total, detail, left)

    def _show(self, done: int, total: int, detail: str, left: str) -> None:
        if self._live is None:
            self._say_now_and_then(done, total, f"{self._what}  {done}/{total}  {detail}  {left}")
            return
        if self._task is None:
            self._task = self._live.add_task(self._what, total=total, detail="", left="", since=None)
        self._live.update(self._task, completed=done, total=total, detail=detail, left=left)
        if done >= total and self._stage:
            self._what = ""
            self._show_stage()
        elif not self._repaint and self._clock() - self._said_s > BAR_EVERY_S:
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

    def settings(self, title: str, rows: list[output.Setting]) -> None:
        """Print what a command is about to do, above the bar."""
        self.table(output.settings_table(title, rows))

    def _show_stage(self) -> None:
        self._clear()
        if self._live is not None:
            since_s = self._stage_since_s
            self._task = self._live.add_task(self._stage, total=None, detail="", left="", since=since_s)

    def _clear(self) -> None:
        if self._live is not None and self._task is not None:
            self._live.remove_task(self._task)
        self._task = None

    def _begin(self, what: str, done: int) -> None:
        self._clear()
        self._what, self._done = what, done
        self._time_left = TimeLeft(self._clock)
        self._started_s = self._clock()

    def _say_now_and_then(self, done: int, total: int, text: str) -> None:
        now_s = self._clock()
        since_s = self._started_s if done >= total else self._said_s  # the end of what was short needs no line
        if now_s - since_s < PLAIN_EVERY_S:
            return
        self._said_s = now_s
        output.say(text)


def _live_bar(*, repaint: bool, clock: Callable[[], float]) -> "RichProgress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Bar(BarColumn):
        def render(self, task: Task) -> Any:
            return Text("") if task.total is None else super().render(task)

    class Count(MofNCompleteColumn):
        def render(self, task: Task) -> Text:
            return Text("") if task.total is None else super().render(task)

    class Time(ProgressColumn):
        def render(self, task: Task) -> Text:
            since_s = task.fields["since"]
            return Text(task.fields["left"] if since_s is None else formats.duration(clock() - since_s))

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        Bar(bar_width=10),
        Count(),
        TextColumn("{task.fields[detail]}", markup=False),
        Time(),
        console=output.console(stderr=True),
        transient=True,
        auto_refresh=repaint,
    )
