"""A bundle on this machine: whether it opens, and which of its engines are built and fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunekit_runtime.building import find_built
from prunekit_runtime.doctoring.finding import Finding
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.text import printable_name

MANIFEST = "bundle.json"


def bundle_findings(folder: Path, *, has_tensorrt: bool) -> Iterator[Finding]:
    """Yield what is found of the bundle in a folder; a folder without one is a note.

    Args:
        folder: where it lies.
        has_tensorrt: whether engines can be looked for.
    """
    if not (folder / MANIFEST).exists():
        yield Finding("bundle", "note", "none in this folder", "go to a bundle's folder, or name it with --bundle DIR")
        return
    from prunekit_runtime.bundle import open_bundle

    try:
        bundle = open_bundle(folder)
    except PrunekitError as error:
        yield Finding("bundle", "missing", printable_name(str(error)), "copy the bundle again")
        return
    names = ", ".join(f"{entry.name} ({entry.precision}, {entry.graph})" for entry in bundle.models)
    yield Finding("bundle", "ok", printable_name(f"complete: {names}"))
    if has_tensorrt:
        yield from (_engine(bundle, entry) for entry in bundle.models)


def _engine(bundle: Any, entry: Any) -> Finding:
    subject = printable_name(f"engine of {entry.name}")
    try:
        return Finding(subject, "ok", str(find_built(bundle, entry, "tensorrt").name))
    except PrunekitError as error:
        return Finding(
            subject, "note", printable_name(str(error).split(". Build it")[0]), "python3 -m prunekit_runtime build"
        )
