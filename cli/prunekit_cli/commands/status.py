"""`prunekit status`: how far a run is, whether something writes to it, and the command that goes on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from prunekit_cli.commands.runs import age, cost, described
from prunekit_cli.options import common as options
from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table

if TYPE_CHECKING:
    from prunekit.overview.reading import Overview

EXAMPLES = ("prunekit status", "prunekit status runs/0002-prune", "prunekit status --json")


def command(run: options.AnyRunArgument = None, as_json: options.JsonOption = False) -> None:
    """Say how far a run is: epochs and stages done, the last scores, and the command that goes on with it."""
    found = _found(run)
    if as_json:
        output.show_json(described(found))
        return
    output.show(Table(f"{found.path}", ("", "value"), list(_rows(found)), texts=True))
    if found.why:
        output.say(f"Damaged: {found.why}")
    if found.state != "running" and (following := _next(found)):
        output.say(f"Next: {following}")


def _found(run: Path | None) -> "Overview":
    from prunekit.overview.listing import list_runs
    from prunekit.overview.reading import overview
    from prunekit.run import open_run

    if run is not None:
        found = overview(run) if run.is_dir() else None
        return found or overview(open_run(run).path) or _none()
    newest = max(list_runs(), key=lambda found: found.written_s, default=None)
    return newest or _none()


def _none() -> "Overview":
    raise options.OptionError("There are no runs in runs/. Make one: prunekit train; or name a run.")


def _rows(found: "Overview") -> "list[tuple[str, str]]":
    holder = "" if not found.process else f", process {found.process}"
    rows = [
        ("state", found.state + holder),
        ("made by", f"prunekit {found.kind}{f', from {found.parent}' if found.parent else ''}"),
        ("model", found.model or "-"),
        ("data", found.data or "-"),
        *_progress(found),
        ("validation mIoU", formats.score(found.miou)),
        ("cost", cost(found)),
        ("last written", f"{age(found)} ago" if found.written_s else "-"),
        ("size", formats.file_size(found.size_bytes)),
    ]
    rows.extend((f"  {part.path.name}", part.state) for part in found.parts)
    return rows


def _progress(found: "Overview") -> "list[tuple[str, str]]":
    rows: list[tuple[str, str]] = []
    if found.stages:
        rows.append(("stages done", f"{found.stages_done} of {found.stages}"))
    if found.epochs is not None and found.epochs_done is not None:
        rows.append(("epochs done", f"{found.epochs_done} of {found.epochs}"))
    if found.loss is not None:
        rows.append(("loss of the last epoch", f"{found.loss:.4f}"))
    return rows


def _next(found: "Overview") -> str | None:
    if found.go_on is not None or found.state != "finished" or found.kind == "demo":
        return found.go_on
    name = shlex.quote(str(found.path))
    return (
        f"prunekit export {name}" if found.kind == "prune" else f"prunekit prune {name}   or   prunekit export {name}"
    )
