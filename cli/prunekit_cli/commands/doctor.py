"""`prunekit doctor`: what is installed here, whether it works, and what is missing for which command."""

from typing import TYPE_CHECKING

import typer

from prunekit_cli.options import common as options
from prunekit_cli.showing import output
from prunekit_cli.showing.output import Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit_export.doctoring import Examination

EXAMPLES = ("prunekit doctor", "prunekit doctor --json")
_MARKS = {"ok": "ok", "note": "-", "missing": "MISSING"}


def command(as_json: options.JsonOption = False) -> None:
    """Try what the commands need, and say what is missing for which of them.

    Each package is used for something small: a convolution, an ONNX file, an operator. The exit code is 1 if training,
    pruning or exporting cannot work here.
    """
    from prunekit_export.doctoring import examine

    with Progress() as progress:
        found = examine(lambda subject, done, subjects: progress.advance(f"trying {subject}", done, subjects))
    if as_json:
        output.show_json(found.to_json())
    else:
        _show(found)
    if not found.healthy:
        raise typer.Exit(1)


def _show(found: "Examination") -> None:
    rows = [(each.subject, _MARKS[each.state], each.found) for each in found.findings]
    output.show(Table("Installed", ("", "", "found"), rows, texts=True))
    can = [(each.name, "yes" if each.works else f"no, for want of {', '.join(each.lacks)}") for each in found.doings]
    output.show(Table("What works here", ("commands", ""), can, texts=True))
    for each in found.findings:
        if each.state != "ok" and each.remedy:
            output.say(f"{each.subject}: {each.remedy}")
