"""What a command says: data on stdout (tables, or one JSON document), talk on stderr.

All of it passes here, or through `progress`, where control characters in names are made harmless.
"""

import dataclasses
import json
import math
import os
import select
import sys
import textwrap
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunekit_runtime.text import printable, printable_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

WIDE = 200  # columns of a table that goes to a file or a pipe, where nothing may be cut off


@dataclass(frozen=True)
class Table:
    """A table; its first column is aligned left, the others right, as numbers are read."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: bool = False
    """All columns hold words and are aligned left."""


@dataclass(frozen=True)
class Setting:
    """A value a command chose, and the option that changes it."""

    what: str
    value: str
    option: str


def console(*, stderr: bool) -> "Console":
    """Return a console on today's stream; brackets in names are text, not markup."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:  # rich leaves the process here; how to leave is the funnel's to say
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Plain(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True)


def columns() -> int:
    """Return how many columns a table of data has room for."""
    return console(stderr=False).width


def result(text: str) -> None:
    """Print a line of data."""
    with _writing():
        sys.stdout.write(printable(text) + "\n")


def paragraph(text: str, bullet: str) -> None:
    """Print data as one paragraph behind a bullet: in lines of a terminal's width, elsewhere in one."""
    lines = [bullet + text]
    if sys.stdout.isatty():
        width, indent = console(stderr=False).width, " " * len(bullet)
        lines = textwrap.wrap(
            printable_name(text),
            width,
            initial_indent=bullet,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    result("\n".join(lines))


def say(text: str) -> None:
    """Print a line of talk."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def fail(text: str) -> None:
    """Print an error, the last line of a command that gave up."""
    console(stderr=True).print(f"Error: {printable(text)}", style="bold red")


def flush() -> None:
    """Write out what is held back, so that a disk that is full or a reader that is gone is known here.

    Raises:
        OSError: the system refuses.
    """
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Generator[None]:
    """Name standard output in an error of the block, which writes there."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            close(1)
        error.filename = "standard output"
        raise


def reader_is_gone() -> bool:
    """Tell whether nobody reads standard output or the talk any more, as after `| head`."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)  # an error is reported without being asked for
    return any(event & select.POLLERR for _, event in poll.poll(0))


def close(*descriptors: int) -> None:
    """Send what is still to be said nowhere: the interpreter writes it out at its end, and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def show(table: Table) -> None:
    """Print a table of data."""
    _print(table, stderr=False)


def tell(table: Table) -> None:
    """Print a table of talk."""
    _print(table, stderr=True)


def settings(title: str, rows: Iterable[Setting]) -> None:
    """Print what a command is about to do with which defaults, as talk."""
    _print(settings_table(title, rows), stderr=True)


def settings_table(title: str, rows: Iterable[Setting]) -> Table:
    """Return what a command is about to do with which defaults, as a table."""
    columns = ("setting", "value", "changed by")
    return Table(title, columns, [(row.what, row.value, row.option) for row in rows], texts=True)


def _print(table: Table, *, stderr: bool) -> None:
    if stderr:
        console(stderr=True).print(drawn(table))
        return
    with _writing():
        console(stderr=False).print(drawn(table))


def drawn(table: Table) -> "RichTable":
    """Return a table as rich draws it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    rich = RichTable(
        title=printable_name(table.title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for index, column in enumerate(table.columns):
        rich.add_column(
            printable_name(column), justify="left" if table.texts or index == 0 else "right", overflow="fold"
        )
    for row in table.rows:
        rich.add_row(*map(printable_name, row))
    return rich


def show_json(report: Any) -> None:
    """Print a report (a dataclass, or JSON values) as one JSON document."""
    result(json.dumps(plain(report), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: dataclasses as objects, paths as text, numbers that are none as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


@contextmanager
def hint_on_interrupt(hint: str, *, once: Path) -> Generator[None]:
    """Say `hint` when Ctrl-C ends the block and the file `once` is there already."""
    try:
        yield
    except KeyboardInterrupt:
        if once.exists():
            with suppress(OSError):  # SIGHUP says that the terminal is gone
                say(hint)
        raise
