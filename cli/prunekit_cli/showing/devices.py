"""Several devices side by side: on a terminal one line each that changes, elsewhere a plain line for each step."""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from prunekit_cli.showing import output
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_REPAINT_HZ = 4
DONE, FAILED = "done", "failed"


class Devices:
    """What each device is doing; may be told by several threads."""

    def __init__(self, names: list[str]) -> None:
        self._doing: dict[str, tuple[str, str]] = dict.fromkeys(names, ("connect", ""))
        self._since_s = dict.fromkeys(names, time.monotonic())
        self._ended_s: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.live import Live

            self._live = Live(
                get_renderable=self.drawn, console=output.console(stderr=True), refresh_per_second=_REPAINT_HZ
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, name: str, step: str, text: str) -> None:
        """Tell what a device is doing."""
        with self._lock:
            self._doing[name] = (step, printable_name(text))
            if self._live is None and self._said.get(name) != step:
                self._said[name] = step
                output.say(f"{printable_name(name)}: {step} ...")

    def end(self, name: str, *, passed: bool) -> None:
        """Tell that a device is done."""
        with self._lock:
            self._ended_s[name] = time.monotonic()
            self._doing[name] = (DONE if passed else FAILED, "")
            if self._live is None:
                output.say(f"{printable_name(name)}: {DONE if passed else FAILED}")

    def drawn(self) -> "Table":
        """Return the lines as a table without rules."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        now_s = time.monotonic()
        with self._lock:
            for name, (step, text) in self._doing.items():
                seconds = self._ended_s.get(name, now_s) - self._since_s[name]
                table.add_row(*(Text(cell) for cell in (printable_name(name), step, f"{seconds:.0f} s", text)))
        return table
