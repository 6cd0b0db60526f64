"""`prunekit data init` without the command line: a class list from what the masks of a folder hold."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prunekit.data.checking.files import SplitFiles
from prunekit.data.checking.findings import value_text
from prunekit.data.checking.sources import folder_files
from prunekit.data.dataset import IGNORE_INDEX, MAX_CLASSES
from prunekit.data.drafting.names import NameTable, find_names
from prunekit.data.drafting.text import Choices, Entry, toml_text
from prunekit.data.drafting.values import MaskValues, scan
from prunekit.data.labels.class_list import CLASS_LISTS
from prunekit.data.labels.colours import Colour
from prunekit.data.labels.masks import Value
from prunekit.data.pairs import check_root
from prunekit.errors import ConfigError, DataError, DataUsageError
from prunekit.run import write_atomically

FILE: Final = "classes.toml"
_NUMBER: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_COLOUR: Final = re.compile(r"([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})", re.ASCII)
_BINARY: Final = (0, 255)


@dataclass(frozen=True)
class FoundValue:
    """What masks hold, and what became of it."""

    text: str
    """The number or colour as class lists write it."""
    pixels: int
    masks: int
    becomes: str


@dataclass(frozen=True)
class Draft:
    """A class list that is yet to be written."""

    path: Path
    masks: int
    what: str
    """Numbers or colours."""
    found: tuple[FoundValue, ...]
    notes: tuple[str, ...]
    text: str
    """The TOML."""

    def to_json(self) -> dict[str, Any]:
        """Return what was found as JSON values."""
        found = [vars(one) for one in self.found]
        return {"format": 1, "written": str(self.path), "masks": self.masks, "found": found, "notes": list(self.notes)}


def check_target(root: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not there, or that has a class list.

    Raises:
        DataError: so it is.
    """
    check_root(root, "folder", remedy="Name the folder that holds the masks.")
    for name in CLASS_LISTS:
        there = root / name
        if there.exists() and name != FILE:
            raise DataError(
                f"{there} is a class list already, and two would be one too many. Check it: prunekit data check "
                f"--root {shlex.quote(str(root))}\n"
                "To begin a new one, rename it, for instance to class_names.txt: its names are used where they fit."
            )
        if there.exists() and not overwrite:
            raise DataUsageError(f"{there} is there already. Replace it: --overwrite")


def draft(
    root: Path,
    ignore: str | None = None,
    on_mask: Callable[[int, int], None] | None = None,
    *,
    images: str = "",
    masks: str = "",
) -> Draft:
    """Read the masks of a folder data set and draft its class list; nothing is written.

    Args:
        root: the folder.
        ignore: what does not count: a number, a colour as R,G,B, or none; None guesses, and says so in the list.
        on_mask: told how many masks of how many are read.
        images: pattern of the images, where they lie in another way.
        masks: pattern of the masks.

    Raises:
        DataError: the folder is laid out in no way that is known, holds no masks, or what they hold cannot be classes.
        ConfigError: `ignore` is no value, or one that no mask holds.
    """
    named = parse_ignore(ignore)
    splits = folder_files(root, images, masks)
    held = scan(_masks(splits), on_mask)
    ignored = _guess(held) if ignore is None else named
    values = _classes(held, ignored)
    table, notes = find_names(root, held.kind, values)
    if table is not None and held.kind == "colours":  # numbers keep their order, which is that of the labels
        values = tuple(value for value in table.names if value in values)
    choices = _choices(root, splits, held, ignored, values, table, guessed=ignore is None)
    notes += [f"Names are from {table.path}."] if table is not None else []
    if held.unreadable:
        notes.append(_left_out(len(held.unreadable), root))
    becomes = {entry.value: entry.name for entry in choices.entries}
    found = [
        FoundValue(value_text(value), one.pixels, one.masks, becomes.get(value, "not counted"))
        for value, one in held.values.items()
    ]
    return Draft(root / FILE, held.masks, held.kind, tuple(found), tuple(notes), toml_text(choices, held))


def write(drafted: Draft, root: Path) -> None:
    """Write the class list into a folder, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(root / FILE, drafted.text.encode())


def parse_ignore(text: str | None) -> Value | None:
    """Return what --ignore names; None for none.

    Raises:
        ConfigError: it is no number, colour or "none".
    """
    if text is None or text.strip().lower() == "none":
        return None
    if _NUMBER.fullmatch(text.strip()):
        return int(text)
    colour = _COLOUR.fullmatch(text.strip())
    if colour is None or any(int(part) > 255 for part in colour.groups()):
        raise ConfigError(f"--ignore takes a number, a colour such as 0,0,0 or none, got {text[:40]!r}.")
    return int(colour[1]), int(colour[2]), int(colour[3])


def _masks(splits: tuple[SplitFiles, ...]) -> list[Path]:
    found = (path for split in splits for path in (*(pair.mask for pair in split.pairs), *split.masks_alone))
    paths = list(dict.fromkeys(found))
    if not paths:
        raise DataError(f"{' and '.join(split.masks for split in splits)} hold no PNG masks. Put them there.")
    return paths


def _classes(held: MaskValues, ignored: Value | None) -> tuple[Value, ...]:
    """Return the values that are classes, in their order."""
    if ignored is not None and ignored not in held.values:
        raise ConfigError(f"No mask holds {value_text(ignored)}, which --ignore names. They hold {_some(held)}.")
    values = tuple(value for value in held.values if value != ignored)
    if not 1 <= len(values) <= MAX_CLASSES:
        raise DataError(_no_classes(len(values), held))
    return values


def _guess(held: MaskValues) -> Value | None:
    """Return 255 where masks hold other numbers above 0 too: without any it is the object on a background of 0."""
    if held.kind == "colours" or IGNORE_INDEX not in held.values:
        return None
    return None if set(held.values) <= set(_BINARY) else IGNORE_INDEX


def _choices(
    root: Path,
    splits: tuple[SplitFiles, ...],
    held: MaskValues,
    ignored: Value | None,
    values: tuple[Value, ...],
    table: NameTable | None,
    *,
    guessed: bool,
) -> Choices:
    colours = _colours(held, table, values)
    entries = tuple(
        Entry(value, f"class_{place}" if table is None else table.names[value], colours.get(value))
        for place, value in enumerate(values)
    )
    folders = tuple(dict.fromkeys(split.masks for split in splits))
    ids = held.kind == "numbers" and values != tuple(range(len(values)))
    return Choices(root, folders, entries, ids, ignored, guessed, table)


def _colours(held: MaskValues, table: NameTable | None, values: tuple[Value, ...]) -> dict[Value, Colour]:
    """Return the colour of each value: the one that masks show, the table's, or the palette's; of all, or none."""
    if held.kind == "colours":
        return {value: value for value in values if isinstance(value, tuple)}
    if held.grey and values == _BINARY:
        return {value: (value, value, value) for value in _BINARY}
    for source in ({} if table is None else table.colours, held.palette):
        found: dict[Value, Colour] = {
            value: source[value] for value in values if isinstance(value, int) and value in source
        }
        if len(found) == len(values):
            return found
    return {}


def _no_classes(count: int, held: MaskValues) -> str:
    if count == 0:
        return f"All that masks hold is {_some(held)}, and that is not to count. Say what is a class: --ignore none"
    example = next(iter(held.values.values())).example
    return (
        f"The masks hold {count} different {held.kind}, and there are at most {MAX_CLASSES} classes. Masks that were "
        f"smoothed or saved lossily hold many: look at {example}. Save masks as PNG with one number or colour a class."
    )


def _left_out(count: int, root: Path) -> str:
    masks = "1 mask cannot be read and was" if count == 1 else f"{count} masks cannot be read and were"
    return f"{masks} left out. What is wrong: prunekit data check --root {shlex.quote(str(root))}"


def _some(held: MaskValues) -> str:
    shown = [value_text(value) for value in held.values][:10]
    return ", ".join(shown) + (f" and {len(held.values) - 10} more" if len(held.values) > 10 else "")
