"""The picture of a pruning: what each group lost, how much channels repeat each other, where the MACs went. SVG.

Lengths are pixels; text is monospaced, so that the room it takes is known without a font (`layout`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import ClassVar, Final

from pydantic import ConfigDict

from prunekit.pruning.picture.layout import MARGIN, shortened, text_width

_STYLE: Final = """font-family="'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12" fill="#1c2126\""""
_FAINT: Final = "#6a7178"
_BEFORE: Final = "#cfd8e3"
_AFTER: Final = "#2c6fb3"
_REPEATED: Final = "#b8500f"
_LINE: Final = 19.0
_BAR: Final = 11.0  # thickness
_BARS: Final = 260.0  # length of the longest bar
_AXIS: Final = 180.0  # length of the redundancy axis
_GAP: Final = 18.0


@dataclass(frozen=True)
class GroupChange:
    """One group before and after."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    width_before: int
    """Units."""
    width_after: int
    redundancy_before: float | None
    """Mean cosine between different units, from 0 to 1; None where it was not seen or there is one unit."""
    redundancy_after: float | None
    """The same over the units that are kept."""


@dataclass(frozen=True)
class PartChange:
    """One part of a network: its MACs before and after."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class StageChange:
    """What remains after a stage."""

    name: str
    macs: int
    miou: float | None
    """On the validation images; None where it was not measured."""


def draw_report(
    title: str, groups: Sequence[GroupChange], parts: Sequence[PartChange], stages: Sequence[StageChange]
) -> str:
    """Return an SVG document with three panels: groups, parts, stages.

    Args:
        title: first line.
        groups: bars of widths before and after, and beside them the redundancy before (ring) and after (dot).
        parts: bars of MACs before and after.
        stages: the source and what each stage left, oldest first.
    """
    names = [shortened(row.name) for row in groups] + [shortened(row.name) for row in parts]
    bars_x = MARGIN + text_width(max([*names, *(row.name for row in stages), "x" * 12], key=len)) + _GAP
    axis_x = bars_x + _BARS + _GAP + text_width("9999 -> 9999") + _GAP
    width = max(axis_x + _AXIS + _GAP + text_width("0.000 -> 0.000"), MARGIN + text_width(title)) + MARGIN
    page = _Page(bars_x, axis_x)
    page.text(MARGIN, title, weight="bold")
    page.next(1.5)
    page.groups(groups)
    page.parts(parts)
    page.stages(stages)
    height = page.y + MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:.0f} {height:.0f}" {_STYLE}>'
    return "\n".join([head, f'<rect {size} fill="#ffffff"/>', *page.marks, "</svg>"]) + "\n"


class _Page:
    """Marks from top to bottom."""

    def __init__(self, bars_x: float, axis_x: float) -> None:
        self.bars_x, self.axis_x, self.y = bars_x, axis_x, MARGIN
        self.marks: list[str] = []

    def next(self, lines: float = 1.0) -> None:
        """Go down."""
        self.y += lines * _LINE

    def text(self, x: float, text: str, *, colour: str = "", weight: str = "") -> None:
        """Put a text on this line, in exactly the room it was given, whatever the font."""
        look = (f' fill="{colour}"' if colour else "") + (f' font-weight="{weight}"' if weight else "")
        length = f'textLength="{text_width(text):.1f}" lengthAdjust="spacingAndGlyphs"'
        mark = f'<text x="{x:.1f}" y="{self.y + 12:.1f}" {length}{look} xml:space="preserve">{escape(text)}</text>'
        self.marks.append(mark if text else "")

    def groups(self, groups: Sequence[GroupChange]) -> None:
        """Draw a row for each group."""
        if not groups:
            return
        self.text(MARGIN, "Channel groups", weight="bold")
        self.text(self.bars_x, "units: light before, dark after", colour=_FAINT)
        self.text(self.axis_x, "redundancy: 0 to 1, ring before, dot after", colour=_FAINT)
        self.next()
        top = self.y
        largest = max(row.width_before for row in groups)
        for row in groups:
            self.text(MARGIN, shortened(row.name))
            self.bar(row.width_before / largest, row.width_after / largest, f"{row.width_before} -> {row.width_after}")
            self.redundancy(row)
            self.next()
        self.axis(top)
        self.next()

    def axis(self, top: float) -> None:
        """Draw the ends and the middle of the redundancy axis."""
        for share in (0.0, 0.5, 1.0):
            x = self.axis_x + share * _AXIS
            line = f'<path d="M{x:.1f} {top:.1f}V{self.y:.1f}" stroke="{_BEFORE}" stroke-width="1"/>'
            self.marks.insert(0, line)

    def redundancy(self, row: GroupChange) -> None:
        """Draw both ends of a group's way along the axis."""
        before, after = row.redundancy_before, row.redundancy_after
        y = self.y + _LINE / 2
        start, end = (None if value is None else self.axis_x + value * _AXIS for value in (before, after))
        if start is not None and end is not None:
            self.marks.append(
                f'<path d="M{start:.1f} {y:.1f}H{end:.1f}" stroke="{_REPEATED}" stroke-width="1.5" opacity="0.5"/>'
            )
        if start is not None:
            self.marks.append(
                f'<circle cx="{start:.1f}" cy="{y:.1f}" r="5" fill="#ffffff" stroke="{_REPEATED}" stroke-width="1.5"/>'
            )
        if end is not None:
            self.marks.append(f'<circle cx="{end:.1f}" cy="{y:.1f}" r="3.5" fill="{_REPEATED}"/>')
        self.text(self.axis_x + _AXIS + _GAP, f"{_number(before)} -> {_number(after)}", colour=_FAINT)

    def parts(self, parts: Sequence[PartChange]) -> None:
        """Draw a row for each part of the network."""
        if not parts:
            return
        total, left = sum(row.macs_before for row in parts), sum(row.macs_after for row in parts)
        self.panel("MACs by part", "light before, dark after; shares of all MACs, before and after")
        self.bars(
            (
                shortened(row.name),
                row.macs_before,
                row.macs_after,
                f"{_quantity(row.macs_before)} -> {_quantity(row.macs_after)}",
                f"{row.macs_before / max(1, total):6.1%} -> {row.macs_after / max(1, left):6.1%}",
            )
            for row in parts
        )

    def stages(self, stages: Sequence[StageChange]) -> None:
        """Draw a row for each stage."""
        if not stages:
            return
        dense = stages[0].macs
        self.panel("MACs by stage", "what is left; its share of the source's MACs, and the validation mIoU")
        self.bars(
            (
                row.name,
                dense,
                row.macs,
                _quantity(row.macs),
                f"{row.macs / max(1, dense):6.1%}   mIoU {_number(row.miou).strip()}",
            )
            for row in stages
        )

    def panel(self, title: str, note: str) -> None:
        """Begin a panel."""
        self.text(MARGIN, title, weight="bold")
        self.text(self.bars_x, note, colour=_FAINT)
        self.next()

    def bars(self, rows: Iterator[tuple[str, int, int, str, str]]) -> None:
        """Draw rows of (name, before, after, figures, shares), and leave room below."""
        found = list(rows)
        largest = max(1, *(before for _, before, _, _, _ in found))
        for name, before, after, figures, shares in found:
            self.text(MARGIN, name)
            self.bar(before / largest, after / largest, figures)
            self.text(self.axis_x + _GAP, shares, colour=_FAINT)
            self.next()
        self.next()

    def bar(self, before: float, after: float, figures: str) -> None:
        """Draw what there was, on it what is left, and the figures after the longest bar."""
        top = self.y + (_LINE - _BAR) / 2
        for share, colour in ((before, _BEFORE), (after, _AFTER)):
            self.marks.append(
                f'<rect x="{self.bars_x:.1f}" y="{top:.1f}" width="{max(1.0, share * _BARS):.1f}" '
                f'height="{_BAR:.1f}" fill="{colour}"/>'
            )
        self.text(self.bars_x + _BARS + _GAP, figures)


def _number(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.3f}"


def _quantity(macs: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if macs >= size:
            return f"{macs / size:.3g}{letter}"
    return str(macs)
