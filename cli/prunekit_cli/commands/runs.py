"""`prunekit runs`: the runs of a folder, from their small files alone."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunekit_cli.options import common as options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table

if TYPE_CHECKING:
    from prunekit.overview.reading import Overview

EXAMPLES = ("prunekit runs", "prunekit runs experiments --json")
COLUMNS = ("run", "from", "state", "mIoU", "cost", "age")
MORE = ("kind", "model", "data", "size")

Folder = Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder of runs.", show_default="runs/")]


def command(folder: Folder = None, as_json: options.JsonOption = False) -> None:
    """List runs: what made them, how far they are, what they score and cost. Nothing is loaded."""
    from prunekit.overview.listing import list_runs

    found = list_runs(folder)
    if as_json:
        output.show_json({"runs": [described(run) for run in found]})
        return
    if not found:
        output.result(f"There are no runs in {folder or 'runs/'}. Make one: prunekit train")
        return
    cells = [_cells(run) for run in found]
    shown = _fitting(cells)
    rows = [[row[column] for column in shown] for row in cells]
    output.show(Table(f"Runs in {folder or 'runs/'}", shown, rows, texts=True))
    begun = [run for run in found if run.go_on is not None]
    if begun:
        output.say(f"Next: {begun[-1].go_on}")
    for run in found:
        if run.state == "damaged":
            output.say(f"{run.path.name}: {run.why}")


def _fitting(cells: list[dict[str, str]]) -> tuple[str, ...]:
    """Return the columns that the terminal shows without breaking words, the further ones last."""
    shown = COLUMNS
    for column in MORE:
        widths = [max(len(name), *(len(row[name]) for row in cells)) for name in (*shown, column)]
        if sum(widths) + 3 * len(widths) > output.columns():  # three blanks between columns
            break
        shown = (*shown, column)
    return shown


def described(run: "Overview") -> dict[str, object]:
    """Return a run as a JSON document has it."""
    return output.plain(run) | {"age_s": _age_s(run)}


def short_model(spec: str | None) -> str:
    """Return a network's name without its package and most arguments."""
    if not spec:
        return "-"
    name, _, arguments = spec.partition("?")
    if name.startswith("python:"):
        name = name.rpartition(":")[2]
    encoder = next((part.partition("=")[2] for part in arguments.split("&") if part.startswith("encoder=")), "")
    return f"{name} {encoder}".strip()


def cost(run: "Overview") -> str:
    """Return MACs where they are known, else parameters."""
    if run.macs is not None:
        return f"{formats.quantity(run.macs)} MACs"
    return "-" if run.params is None else f"{formats.quantity(run.params)} params"


def age(run: "Overview") -> str:
    """Return how long ago a file was last written: "5 min", "3 d"."""
    seconds = _age_s(run)
    if seconds is None:
        return "-"
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds // unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _age_s(run: "Overview") -> float | None:
    return max(0.0, time.time() - run.written_s) if run.written_s else None


def _cells(run: "Overview") -> dict[str, str]:
    return {
        "run": run.path.name,
        "from": run.parent or "-",
        "state": run.state,
        "mIoU": formats.score(run.miou),
        "cost": cost(run),
        "age": age(run),
        "kind": run.kind,
        "model": short_model(run.model),
        "data": run.data or "-",
        "size": formats.file_size(run.size_bytes),
    }
