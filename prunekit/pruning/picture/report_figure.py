"""The picture of a pruning: what each group lost, how much channels repeat each other, where the MACs went. SVG.

Three panels of bars, each with a panel of dots beside it. Lengths are inches, sizes of letters points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import ConfigDict

from prunekit.pictures.charts import FAINT, draw_chart, drawable, width_in
from prunekit.pruning.picture.layout import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEFORE: Final = "#cfd8e3"
_AFTER: Final = "#2c6fb3"
_DOTS: Final = "#b8500f"
_ROW: Final = 0.2
_PANEL: Final = 0.75  # title and axis of a panel
_HEAD: Final = 0.7  # title and legend
_BARS, _DOT_AXIS, _NUMBERS = 3.4, 2.0, 2.8  # widths
_NAME_SIZE: Final = 9.0  # points
_TITLE_SIZE: Final = 11.0
_RING: Final[dict[str, Any]] = {"marker": "o", "markersize": 7, "markerfacecolor": "white"}
_DOT: Final[dict[str, Any]] = {"marker": "o", "markersize": 5}
_SIZES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


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


@dataclass(frozen=True)
class _Row:
    """One line of a panel: a bar, and a dot beside it."""

    name: str
    before: int
    after: int
    amounts: str
    """The bar in figures."""
    start: float | None
    """Of the dot's way along its axis, from 0 to 1."""
    end: float | None
    shares: str
    """The dot in figures."""


@dataclass(frozen=True)
class _Panel:
    """Rows that share two axes."""

    bars: str
    """What the bars show."""
    dots: str
    rows: tuple[_Row, ...]


def draw_report(
    title: str, groups: Sequence[GroupChange], parts: Sequence[PartChange], stages: Sequence[StageChange]
) -> str:
    """Return an SVG document with three panels: groups, parts, stages.

    Args:
        title: first line.
        groups: bars of widths before and after, and beside them the redundancy before (ring) and after (dot).
        parts: bars of MACs before and after, and beside them their shares of all MACs.
        stages: the source and what each stage left, oldest first: bars of MACs, and beside them the mIoU.
    """
    panels = [panel for panel in (_groups(groups), _parts(parts), _stages(stages)) if panel.rows]
    names = [row.name for panel in panels for row in panel.rows]
    heading = drawable(title)
    room = max((width_in(name, _NAME_SIZE) for name in names), default=0.0)
    width = max(room + _BARS + _DOT_AXIS + _NUMBERS, width_in(heading, _TITLE_SIZE) + 0.3)
    height = _HEAD + sum(_PANEL + _ROW * len(panel.rows) for panel in panels)
    return draw_chart((width, height), heading, lambda figure: _fill(figure, heading, panels))


def _groups(groups: Sequence[GroupChange]) -> _Panel:
    rows = [
        _Row(
            drawable(shortened(row.name)),
            row.width_before,
            row.width_after,
            f"{row.width_before} → {row.width_after}",
            row.redundancy_before,
            row.redundancy_after,
            f"{_score(row.redundancy_before)} → {_score(row.redundancy_after)}",
        )
        for row in groups
    ]
    return _Panel("Channel groups: units", "Redundancy: mean cosine", tuple(rows))


def _parts(parts: Sequence[PartChange]) -> _Panel:
    total = max(1, sum(row.macs_before for row in parts))
    left = max(1, sum(row.macs_after for row in parts))
    rows = [
        _Row(
            drawable(shortened(row.name)),
            row.macs_before,
            row.macs_after,
            f"{_quantity(row.macs_before)} → {_quantity(row.macs_after)}",
            row.macs_before / total,
            row.macs_after / left,
            f"{row.macs_before / total:.1%} → {row.macs_after / left:.1%}",
        )
        for row in parts
    ]
    return _Panel("MACs by part", "Share of all MACs", tuple(rows))


def _stages(stages: Sequence[StageChange]) -> _Panel:
    dense = max(1, stages[0].macs) if stages else 1
    rows = [
        _Row(
            drawable(shortened(row.name)),
            dense,
            row.macs,
            f"{_quantity(row.macs)}, {row.macs / dense:.1%}",
            None,
            row.miou,
            _score(row.miou),
        )
        for row in stages
    ]
    return _Panel("MACs by stage", "Validation mIoU", tuple(rows))


def _fill(figure: Figure, heading: str, panels: Sequence[_Panel]) -> None:
    if not panels:
        figure.suptitle(heading, size=_TITLE_SIZE)
        return
    sizes = {"width_ratios": (_BARS, _DOT_AXIS), "height_ratios": [len(panel.rows) for panel in panels]}
    axes = figure.subplots(len(panels), 2, squeeze=False, gridspec_kw=sizes)
    for (bars, dots), panel in zip(axes, panels, strict=True):
        _draw_bars(bars, panel)
        _draw_dots(dots, panel)
    _draw_legend(figure, heading)


def _draw_bars(axes: Axes, panel: _Panel) -> None:
    """Draw what there was, and on it what is left."""
    places = range(len(panel.rows))
    for amounts, colour in (([row.before for row in panel.rows], _BEFORE), ([row.after for row in panel.rows], _AFTER)):
        axes.barh(places, amounts, color=colour, height=0.6)
    axes.set_title(panel.bars, weight="bold")
    axes.set_xlim(0, max(1, *(row.before for row in panel.rows)))
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.xaxis.set_major_formatter(lambda amount, _: _quantity(amount))
    axes.set_yticks(places, [row.name for row in panel.rows], size=_NAME_SIZE)
    _note(axes, [row.amounts for row in panel.rows])


def _draw_dots(axes: Axes, panel: _Panel) -> None:
    """Draw both ends of each row's way from 0 to 1."""
    for place, row in enumerate(panel.rows):
        if row.start is not None and row.end is not None:
            axes.plot((row.start, row.end), (place, place), color=_DOTS, alpha=0.5, linewidth=1.2)
        if row.start is not None:
            axes.plot(row.start, place, color=_DOTS, clip_on=False, **_RING)
        if row.end is not None:
            axes.plot(row.end, place, color=_DOTS, clip_on=False, **_DOT)
    axes.set_title(panel.dots, weight="bold")
    axes.set_xlim(0, 1)
    axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
    axes.set_yticks(())
    _note(axes, [row.shares for row in panel.rows])


def _note(axes: Axes, texts: Sequence[str]) -> None:
    """Put the figures at the right of rows that go from top to bottom."""
    axes.set_ylim(len(texts) - 0.5, -0.5)
    axes.tick_params(length=0)
    for place, text in enumerate(texts):
        axes.annotate(text, (1, place), (8, 0), ("axes fraction", "data"), "offset points", va="center", color=FAINT)


def _draw_legend(figure: Figure, heading: str) -> None:
    """Say what is before and what after, under the heading: the layout leaves room for legends, as they are wide."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    before = (Patch(color=_BEFORE), Line2D([], [], color=_DOTS, linestyle="", **_RING))
    after = (Patch(color=_AFTER), Line2D([], [], color=_DOTS, linestyle="", **_DOT))
    together = {tuple: HandlerTuple(ndivide=None)}
    pairs: Any = [before, after]  # the stubs know single marks only
    looks: dict[str, Any] = {"ncols": 2, "handler_map": together, "title": heading}
    legend = figure.legend(pairs, ["before", "after"], loc="outside upper left", **looks)
    legend.set_alignment("left")
    legend.get_title().set_fontsize(_TITLE_SIZE)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _quantity(amount: float) -> str:
    for size, letter in _SIZES:
        if amount >= size:
            return f"{amount / size:.3g}{letter}"
    return f"{amount:.0f}"
