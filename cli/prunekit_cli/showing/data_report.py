"""What `prunekit data` found, as tables and sentences for people."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prunekit_cli.showing import formats, output
from prunekit_cli.showing.output import Table

if TYPE_CHECKING:
    from prunekit.data.checking.report import DataReport, Finding, SplitReport
    from prunekit.data.drafting.draft import Draft

MOST_FILES = 5  # of a finding; --json lists all
MOST_VALUES = 12  # that are no class
_LEVELS = {"mend": "To mend", "look": "To look at"}


def show_json(report: "DataReport") -> None:
    """Print a report as JSON, every file named."""
    output.show_json(report.to_json())


def show(report: "DataReport") -> None:
    """Print what a data set holds, and then what is wrong with it."""
    where = f"{report.name} {report.root}".strip()
    output.show(_files(f"Files of {where}", report.splits))
    output.show(_labels(report))
    if report.splits and report.splits[0].mean:
        output.show(_normalisation(report))
    for split in report.splits:
        if split.unknown:
            output.show(_unknown(split))
    for level, found in (("mend", report.to_mend), ("look", report.to_look_at)):
        if found:
            output.result(f"{_LEVELS[level]} ({len(found)})")
        for number, finding in enumerate(found, start=1):
            _tell(number, finding)


def show_draft(draft: "Draft") -> None:
    """Print what masks hold and what became of it."""
    total = sum(found.pixels for found in draft.found)
    rows = [
        (found.text, formats.pixel_share(found.pixels / total), str(found.masks), found.becomes)
        for found in draft.found
    ]
    title = f"{draft.masks} masks hold {len(rows)} {draft.what}"
    output.show(Table(title, ("value", "pixels", "in masks", "becomes"), rows))
    for note in draft.notes:
        output.say(note)
    output.result(f"Written: {draft.path}")


def _files(title: str, splits: "Iterable[SplitReport]") -> Table:
    splits = list(splits)
    rows: list[tuple[str, Callable[[SplitReport], str]]] = [
        ("images with masks", lambda one: str(one.samples)),
        ("images without", lambda one: str(one.images_alone)),
        ("masks without image", lambda one: str(one.masks_alone)),
        ("cannot be read", lambda one: str(one.unreadable)),
        ("image size, height x width", lambda one: _most(one.image_sizes)),
        ("mask size, height x width", lambda one: _most(one.mask_sizes)),
        ("image format", lambda one: _most(one.image_formats)),
        ("mask format", lambda one: _most(one.mask_formats)),
    ]
    cells = [(what, *(cell(split) for split in splits)) for what, cell in rows]
    return Table(title, ("", *(split.split for split in splits)), [row for row in cells if any(row[1:])])


def _most(counts: Mapping[str, int]) -> str:
    """Return the most frequent entry, and how many others there are."""
    if not counts:
        return ""
    (first, number), *others = counts.items()
    if not others:
        return first
    return f"{first} ({number}), {len(others)} other{'s' * (len(others) > 1)} ({sum(n for _, n in others)})"


def _labels(report: "DataReport") -> Table:
    columns = ["class"]
    for split in report.splits:
        columns += [split.split, "images"]
    rows: list[tuple[str, ...]] = []
    for label, name in enumerate(report.classes):
        cells: list[str] = []
        for split in report.splits:
            cells += [formats.pixel_share(split.labels.shares[label]), str(split.images_by_class[label])]
        rows.append((name, *cells))
    ignored = [cell for one in report.splits for cell in (formats.pixel_share(one.labels.ignored_share), "")]
    return Table("Pixels by class", columns, [*rows, ("not counted", *ignored)])


def _normalisation(report: "DataReport") -> Table:
    split = report.splits[0]
    rows = [
        (channel, *(f"{value:.1f}" for value in values))
        for channel, *values in zip(
            ("red", "green", "blue"), split.mean, report.mean, split.std, report.std, strict=True
        )
    ]
    title = f"Colours of {split.split}, 0 to 255, and what the recipe normalises by"
    return Table(title, ("", "mean", "recipe's", "deviation", "recipe's"), rows)


def _unknown(split: "SplitReport") -> Table:
    from prunekit.data.checking.findings import value_text

    rows = [
        (value_text(one.value), str(one.pixels), str(one.masks), one.example) for one in split.unknown[:MOST_VALUES]
    ]
    rest = len(split.unknown) - len(rows)
    more = f", {rest} more in --json" if rest else ""
    return Table(
        f"Values in masks of {split.split} that are no class{more}", ("value", "pixels", "masks", "for example"), rows
    )


def _tell(number: int, finding: "Finding") -> None:
    where = "" if finding.split is None else f"{finding.split}: "
    output.paragraph(f"{where}{finding.text}", f"{number:3}. ")
    for file in finding.files[:MOST_FILES]:
        output.paragraph(file, "     - ")
    if len(finding.files) > MOST_FILES:
        output.paragraph(f"and {len(finding.files) - MOST_FILES} more, all in --json", "     - ")
