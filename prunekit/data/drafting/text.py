"""A drafted class list as TOML, with the reason for each choice."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.drafting.names import NameTable
from prunekit.data.drafting.values import Held, MaskValues
from prunekit.data.labels.colours import Colour
from prunekit.data.labels.masks import Value
from prunekit_runtime.text import printable_name

_COLUMN = 30  # where comments begin


@dataclass(frozen=True)
class Entry:
    """A class."""

    value: Value
    """In the masks."""
    name: str
    colour: Colour | None


@dataclass(frozen=True)
class Choices:
    """What a class list is to say."""

    root: Path
    folders: tuple[str, ...]
    """Of the masks."""
    entries: tuple[Entry, ...]
    ids: bool
    """The numbers in masks are not 0, 1, 2, ..., so each class names its own."""
    ignored: Value | None
    guessed: bool
    """Nobody said what does not count."""
    table: NameTable | None


def toml_text(choices: Choices, held: MaskValues) -> str:
    """Return the class list."""
    lines = [
        f"# Class list, begun by `prunekit data init` from {held.masks} masks in {' and '.join(choices.folders)}.",
        "# Give each class its name. Their order is that of the labels, from 0, and stays once a network is trained.",
    ]
    if choices.table is not None:
        lines.append(f"# The names are from {choices.table.path}.")
    lines += ["", _reading(held), *_ignoring(choices, held)]
    total = sum(one.pixels for one in held.values.values())
    for entry in choices.entries:
        lines += ["", "[[classes]]", *_entry(entry, held, total, with_id=choices.ids)]
    return "\n".join(map(printable_name, lines)) + "\n"


def _reading(held: MaskValues) -> str:
    if held.kind == "colours":
        return _with('masks = "colour"', "masks show a colour for each class")
    return _with('masks = "index"', "masks hold a number for each class; colours are for pictures alone")


def _ignoring(choices: Choices, held: MaskValues) -> list[str]:
    ignored, repeat = choices.ignored, f"prunekit data init {shlex.quote(str(choices.root))} --overwrite --ignore"
    if ignored is None:
        example = "R,G,B" if any(isinstance(entry.value, tuple) for entry in choices.entries) else "NUMBER"
        return ["# Every pixel counts. If one of these is no class but void:", f"# {repeat} {example}"]
    line = f"ignore_colour = {list(ignored)}" if isinstance(ignored, tuple) else f"ignore_index = {ignored}"
    said = _share(held.values[ignored], held, sum(one.pixels for one in held.values.values()))
    if not choices.guessed:
        return [_with(line, f"pixels that do not count: {said}")]
    return [
        f"# {IGNORE_INDEX} is taken for void, as is usual where masks hold 1, 2, ... too. If it is a class:",
        f"# {repeat} none",
        _with(line, said),
    ]


def _entry(entry: Entry, held: MaskValues, total: int, *, with_id: bool) -> list[str]:
    name, said = tomli_w.dumps({"name": entry.name}).strip(), _share(held.values[entry.value], held, total)
    number = isinstance(entry.value, int)
    lines = [_with(name, f"number {entry.value}: {said}" if number and not with_id else said)]
    if with_id:
        lines.append(_with(f"id = {entry.value}", "number in the masks"))
    if entry.colour is not None:
        lines.append(f"colour = {list(entry.colour)}")
    return lines


def _share(one: Held, held: MaskValues, total: int) -> str:
    return f"{100 * one.pixels / total:.3g} % of the pixels, in {one.masks} of {held.masks} masks"


def _with(line: str, comment: str) -> str:
    return f"{line:{_COLUMN}}# {comment}"
