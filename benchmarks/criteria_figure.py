"""What a page of `criteria.py` says, as a figure beside it: mIoU against the share of MACs left.

    python benchmarks/criteria_figure.py docs/results/criteria.md ...

draws the figures of pages anew, from the means that stand there.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prunekit.pictures.charts import FAINT, INK, draw_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = list[tuple[float, float]]
"""Share of MACs left and mean mIoU, the whole network first."""

_SIZE_IN: Final = (11.5, 5.2)
_HIGHLIGHT: Final = {"sirfp": "#b8500f", "random": INK}
_OTHERS: Final = "#9aa7b5"
_UNPRUNED: Final = "#2c6fb3"
_LINE: Final = 0.032  # between two names, of an axis' height
_NUMBER: Final = r"(\d\.\d{3})"


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    curves: dict[str, Curve]
    unpruned: tuple[float, float]
    """Smallest and largest mIoU of the networks that nothing was cut from."""
    meaning: str
    """Of these."""


def main() -> None:
    """Draw the figure of each page that is named."""
    for path in map(Path, sys.argv[1:]):
        path.with_suffix(".svg").write_text(figure(path.read_text()))


def figure(page: str) -> str:
    """Return an SVG document of two plots, before and after fine-tuning; rows with a comma, ablations, are left out."""
    seeds = _found(r"epochs, (seeds? [\d to]+)\.", page)[0]
    title = f"Validation mIoU against the share of MACs left, mean of {seeds}"
    return draw_chart(_SIZE_IN, title, lambda canvas: _fill(canvas, title, _panels(page)))


def _panels(page: str) -> list[Panel]:
    dense = float(_found(rf"Dense: {_NUMBER}", page)[0])
    after, low, high = map(float, _found(rf"same extra training: {_NUMBER} \({_NUMBER}\.\.{_NUMBER}\)", page))
    epochs = _found(r"the same (\d+ epochs?) of fine-tuning", page)[0]
    return [
        Panel("Compensated, not trained", _curves(page, 3, dense), (dense, dense), "dense network"),
        Panel(
            f"After {epochs} of fine-tuning",
            _curves(page, 4, after),
            (low, high),
            "unpruned, same training: range over seeds",
        ),
    ]


def _found(pattern: str, page: str) -> Sequence[str]:
    match = re.search(pattern, page)
    if match is None:
        raise SystemExit(f"The page does not say {pattern!r}: is it one of criteria.py?")
    return match.groups()


def _curves(page: str, column: int, whole: float) -> dict[str, Curve]:
    """Return the curves of one column of the tables, of which there is one for each ratio."""
    curves: dict[str, Curve] = {}
    for section in re.split(r"^## ", page, flags=re.M)[1:]:
        if "of the MACs gone" not in section.splitlines()[0]:
            continue
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 8 and re.match(_NUMBER, cells[column]) and "," not in cells[0]:
                curves.setdefault(cells[0], [(1.0, whole)]).append((float(cells[5]), float(cells[column].split()[0])))
    return curves


def _fill(canvas: Figure, title: str, panels: Sequence[Panel]) -> None:
    canvas.suptitle(title, x=0.01, ha="left", size=11)
    for axes, panel in zip(canvas.subplots(1, len(panels)), panels, strict=True):
        _draw(axes, panel)


def _draw(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import MultipleLocator

    left = min(macs for curve in panel.curves.values() for macs, _ in curve)
    axes.set_title(panel.title, weight="bold")
    quarters = [share for share in (100, 75, 50, 25) if share / 100 > left - 0.02]
    axes.set_xticks([share / 100 for share in quarters], [f"{share}%" for share in quarters])
    axes.set_xlim(1.02, left - 0.01)
    axes.set_xlabel("MACs left")
    axes.axhspan(*panel.unpruned, color=_UNPRUNED, alpha=0.25, linewidth=1.0, label=panel.meaning)
    for name, curve in sorted(panel.curves.items(), key=lambda one: one[0] in _HIGHLIGHT):
        macs, miou = zip(*curve, strict=True)
        wide = 2.2 if name in _HIGHLIGHT else 1.0
        axes.plot(macs, miou, color=_HIGHLIGHT.get(name, _OTHERS), linewidth=wide, marker="o", markersize=2 + wide / 2)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(MultipleLocator(0.05 if high - low > 0.13 else 0.02))
    axes.legend(loc="lower left")
    _name(axes, panel.curves)


def _name(axes: Axes, curves: dict[str, Curve]) -> None:
    """Name each curve at its end; names move apart where they would touch."""
    low, high = axes.get_ylim()
    ends = sorted(((curve[-1], name) for name, curve in curves.items()), key=lambda end: end[0][1])
    places = _apart([(miou - low) / (high - low) for (_, miou), _ in ends])
    for (end, name), place in zip(ends, places, strict=True):
        line = {"arrowstyle": "-", "color": _HIGHLIGHT.get(name, _OTHERS), "linewidth": 0.6, "shrinkA": 0}
        looks: dict[str, Any] = {"color": _HIGHLIGHT.get(name, FAINT), "arrowprops": {**line, "relpos": (0, 0.5)}}
        axes.annotate(name, end, (1.06, place), textcoords="axes fraction", va="center", **looks)


def _apart(places: Sequence[float]) -> list[float]:
    """Return rising places a line or more apart, as near as can be: those that would touch lie about their mean."""
    blocks: list[list[float]] = []  # of names that touch: places, each less the lines below it
    for index, place in enumerate(places):
        blocks.append([place - index * _LINE])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return [start + index * _LINE for index, start in enumerate(_mean(block) for block in blocks for _ in block)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
