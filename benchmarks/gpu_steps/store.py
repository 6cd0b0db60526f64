"""The JSON file of a step: the machine, the rows that are done, and why others are not."""

import datetime
from pathlib import Path
from typing import Any, Final

from gpu_steps.step import GpuRefusedError
from prunekit.storing import read_json, write_json

FORMAT: Final = 1
_SAME: Final = ("device", "torch", "cuda", "cudnn", "driver")
"""Facts of the machine in which all rows of a file agree."""


def content_of(path: Path) -> dict[str, Any]:
    """Return what a file of this format holds.

    Raises:
        GpuRefusedError: it has another one.
    """
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise GpuRefusedError(f"{path} has another format. Give another --out.")
    return content


class Store:
    """Rows by their keys, on disk after each.

    Raises:
        GpuRefusedError: the file is of another machine, or of a dry run where this is none.
    """

    def __init__(self, path: Path, machine: dict[str, Any], *, dry_run: bool) -> None:
        self.path = path
        empty: dict[str, Any] = {"format": FORMAT, "dry_run": dry_run, "machine": machine, "rows": {}, "refused": {}}
        self.content = content_of(path) if path.exists() else empty
        if self.content["dry_run"] != dry_run:
            kinds = {True: "a dry run", False: "measured rows"}
            raise GpuRefusedError(f"{path} holds {kinds[not dry_run]}, not {kinds[dry_run]}. Give another --out.")
        for fact in _SAME:
            there, here = self.content["machine"].get(fact), machine.get(fact)
            if there != here:
                raise GpuRefusedError(
                    f"{path} was measured with {fact} {there}, here it is {here}. Give another --out."
                )

    def has(self, key: str) -> bool:
        """Say whether a row is done."""
        return key in self.content["rows"]

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep a row."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.content["rows"][key] = {**row, "measured_at": now}
        self.content["refused"].pop(key, None)
        write_json(self.path, self.content)

    def refuse(self, key: str, reason: str) -> None:
        """Keep why a row is not there; it is tried again the next time."""
        self.content["refused"][key] = reason
        write_json(self.path, self.content)
