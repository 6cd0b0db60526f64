"""What `criteria.py` measured, as a Markdown page and a figure."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where the results lie and how they were obtained."""

    out: Path
    seeds: range
    data: str
    subject: str
    """The network and what it sees."""
    epochs: int
    tune_epochs: int
    batches: int
    ratios: tuple[float, ...]
    options: str = ""
    """Of the command that prints the page, but for folders."""
    figure: str = "criteria.svg"
    """Name of the figure beside the page."""

    def rows(self, job: str) -> list[Row]:
        """Return one result a seed."""
        return [json.loads(result_path(self.out, f"{job}|{seed}").read_text()) for seed in self.seeds]

    def pruned(self, names: Sequence[str]) -> dict[str, list[Row]]:
        """Return the results of the rows that pruned this network, refused ones left out."""
        found = {name: self.rows(f"prune|{name}") for name in names}
        return {name: rows for name, rows in found.items() if not any("refused" in row for row in rows)}

    def scratch(self, ratio: str) -> list[float]:
        """Return mIoU of `sirfp`'s shape trained from random weights, for the seeds and the ratio that it was done for."""
        paths = [result_path(self.out, f"scratch|{seed}") for seed in self.seeds]
        rows = [json.loads(path.read_text())["ratios"] for path in paths if path.exists()]
        return [row[ratio]["miou_after"] for row in rows if ratio in row]

    def refused(self, names: Sequence[str]) -> dict[str, str]:
        """Return why rows could not prune this network."""
        found = {name: self.rows(f"prune|{name}") for name in names}
        return {
            name: next(row["refused"] for row in rows if "refused" in row)
            for name, rows in found.items()
            if any("refused" in row for row in rows)
        }


def result_path(out: Path, job: str) -> Path:
    """Return the file of one job's result."""
    return out / "results" / (job.replace("|", "-").replace(", ", "-").replace(" ", "_") + ".json")


def table(bench: Bench, policies: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        bench: the results.
        policies: the allocation of each row; its keys are the rows.
    """
    names = list(policies)
    dense, longer, kept = bench.rows("train"), bench.rows("longer"), bench.pruned(names)
    lines = ["# Criteria against each other", "", _how(bench), "", *_controls(dense, longer), ""]
    lines += [f"![mIoU against MACs]({bench.figure})", ""]
    for ratio in bench.ratios:
        lines += [f"## {ratio:.0%} of the MACs gone", "", *_ratio_table(str(ratio), kept, policies, bench), ""]
    lines += ["## sirfp against each, seed by seed", "", *_paired(bench.ratios, kept), ""]
    lines += [f"{name} refused this network: {reason}" for name, reason in bench.refused(names).items()]
    return "\n".join(lines).rstrip() + "\n"


def _how(bench: Bench) -> str:
    return (
        f"`python benchmarks/criteria.py --data {bench.data}{bench.options}`: {bench.subject}, {bench.epochs} "
        f"epochs, {_seeds(bench.seeds)}. Every criterion sees the same dense weights and the same {bench.batches} batches "
        "of 8 augmented training images, cuts to the same MACs (within 0.5 %, widths multiples of 8) with the allocation "
        f'of its source, and gets the same {bench.tune_epochs} epochs of fine-tuning. "As cut" is before anything '
        'else; "compensated" has the removed channels folded into their consumers and the batch norms measured anew, on '
        "the same batches, without training; fine-tuning starts from there. Rows with a comma are ablations: they say "
        "what they do otherwise. Validation mIoU, mean over seeds, smallest and largest in brackets; sorted by the "
        "fine-tuned mean."
    )


def _seeds(seeds: range) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _controls(dense: list[Row], longer: list[Row]) -> list[str]:
    after = [row["miou_after"] for row in longer]
    return [
        f"Dense: {_spread([row['miou'] for row in dense])}. Unpruned with the same extra training: {_spread(after)}. "
        f"Noise floor (range of the unpruned runs over seeds): {max(after) - min(after):.3f}."
    ]


def _ratio_table(ratio: str, kept: Mapping[str, list[Row]], policies: Mapping[str, str], bench: Bench) -> list[str]:
    lines = [
        "| criterion | allocation | as cut | compensated | fine-tuned | MACs left | parameters left | CPU s to rank |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    after = {name: _mean([row["ratios"][ratio]["miou_after"] for row in rows]) for name, rows in kept.items()}
    for name in sorted(kept, key=lambda name: -after[name]):
        cut = [row["ratios"][ratio] for row in kept[name]]
        cells = [name, policies[name]]
        cells += [_spread([row[key] for row in cut]) for key in ("miou_cut", "miou_compensated", "miou_after")]
        cells += [f"{_mean([row[key] for row in cut]):.3f}" for key in ("macs", "params")]
        cells += [f"{_mean([row['rank_cpu_s'] for row in kept[name]]):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    fresh = bench.scratch(ratio) if "sirfp" in kept else []
    return [*lines, "", _scratch(bench, fresh)] if fresh else lines


def _scratch(bench: Bench, fresh: list[float]) -> str:
    return (
        f"sirfp's shape from random weights, {bench.epochs} + {bench.tune_epochs} epochs at the learning rate of the "
        f"dense training ({len(fresh)} of the seeds): {_spread(fresh)}."
    )


def _paired(ratios: Sequence[float], kept: Mapping[str, list[Row]]) -> list[str]:
    """Differences from the same dense network: what the seed does to both cancels."""
    if "sirfp" not in kept:
        return []
    lines = ["Its mIoU minus the other's, from the same dense network: mean, smallest and largest.", ""]
    lines += ["| criterion | " + " | ".join(f"{ratio:.0%}, {when}" for ratio in ratios for when in _WHEN) + " |"]
    lines += ["| --- |" + " --- |" * (len(ratios) * len(_WHEN))]
    for name, rows in kept.items():
        if name != "sirfp":
            cells = [
                _spread(_differences(kept["sirfp"], rows, str(ratio), key), "+")
                for ratio in ratios
                for key in _WHEN.values()
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


_WHEN: Final = {"compensated": "miou_compensated", "fine-tuned": "miou_after"}


def _differences(own: list[Row], other: list[Row], ratio: str, key: str) -> list[float]:
    return [mine["ratios"][ratio][key] - row["ratios"][ratio][key] for mine, row in zip(own, other, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{_mean(values):{sign}.3f} ({min(values):{sign}.3f}..{max(values):{sign}.3f})"


_STYLE: Final = """font-family="'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12" fill="#1c2126\""""
_HIGHLIGHT: Final = {"sirfp": "#b8500f", "random": "#1c2126"}
_OTHERS: Final = "#9aa7b5"
_PANEL: Final = (430.0, 420.0)  # px, width and height of one plot
_LEFT, _TOP, _NAMES = 60.0, 64.0, 190.0


def figure(bench: Bench, names: Sequence[str]) -> str:
    """Return mIoU against the share of MACs left, before and after fine-tuning, with the band of the unpruned runs."""
    kept = {name: rows for name, rows in bench.pruned(names).items() if "," not in name}
    dense = _mean([row["miou"] for row in bench.rows("train")])
    after = [row["miou_after"] for row in bench.rows("longer")]
    panels = [
        ("compensated, not trained", "miou_compensated", dense, (dense, dense)),
        (f"after {bench.tune_epochs} epochs of fine-tuning", "miou_after", _mean(after), (min(after), max(after))),
    ]
    width = sum((_PANEL[0] + _NAMES + _LEFT for _ in panels), 0.0)
    parts = [f'<text x="{_LEFT}" y="24">mIoU against the share of MACs that is left, mean over seeds</text>']
    for place, (title, key, whole, band) in enumerate(panels):
        curves = {name: _curve(bench.ratios, rows, key, whole) for name, rows in kept.items()}
        parts += _panel(_LEFT + place * (_PANEL[0] + _NAMES + _LEFT), title, curves, band)
    height = _TOP + _PANEL[1] + 48
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" {_STYLE}>\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _curve(ratios: Sequence[float], rows: list[Row], key: str, whole: float) -> list[tuple[float, float]]:
    points = [
        (
            _mean([row["ratios"][str(ratio)]["macs"] for row in rows]),
            _mean([row["ratios"][str(ratio)][key] for row in rows]),
        )
        for ratio in ratios
    ]
    return [(1.0, whole), *points]


def _panel(
    left: float, title: str, curves: Mapping[str, list[tuple[float, float]]], band: tuple[float, float]
) -> list[str]:
    mious = [miou for curve in curves.values() for _, miou in curve] + list(band)
    low, high = min(mious) - 0.01, max(mious) + 0.01

    def x(macs: float) -> float:
        return left + (1.05 - macs) / 0.85 * _PANEL[0]

    def y(miou: float) -> float:
        return _TOP + (high - miou) / (high - low) * _PANEL[1]

    parts = [f'<text x="{left}" y="{_TOP - 14}">{escape(title)}</text>', *_axes(left, low, high, x, y)]
    parts.append(
        f'<rect x="{left}" y="{y(band[1]):.1f}" width="{_PANEL[0]}" height="{max(1.0, y(band[0]) - y(band[1])):.1f}" '
        'fill="#2c6fb3" opacity="0.18"/>'
    )
    for name, curve in sorted(curves.items(), key=lambda one: one[0] in _HIGHLIGHT):
        path = " ".join(f"{x(macs):.1f},{y(miou):.1f}" for macs, miou in curve)
        wide = 2.4 if name in _HIGHLIGHT else 1.0
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(name)}" stroke-width="{wide}"/>')
    return [*parts, *_names(curves, x, y)]


def _axes(left: float, low: float, high: float, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    parts: list[str] = []
    for twentieth in range(int(low * 20) + 1, int(high * 20) + 1):
        at = y(twentieth / 20)
        parts.append(f'<line x1="{left}" x2="{left + _PANEL[0]}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e7ec"/>')
        parts.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{twentieth / 20:.2f}</text>')
    parts += [
        f'<text x="{x(macs):.1f}" y="{_TOP + _PANEL[1] + 20}" text-anchor="middle">{macs:.0%}</text>'
        for macs in (1.0, 0.75, 0.5, 0.25)
    ]
    return parts


def _names(
    curves: Mapping[str, list[tuple[float, float]]], x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    """Name each curve at its end; names move down where they would touch."""
    parts: list[str] = []
    below = _TOP - 13
    ends = sorted(curves.items(), key=lambda one: -one[1][-1][1])
    room = _TOP + _PANEL[1] + 6
    for place, (name, curve) in enumerate(ends):
        macs, miou = curve[-1]
        at = min(max(y(miou) + 4, below + 13), room - 13 * (len(ends) - 1 - place))
        start = x(macs)
        parts.append(
            f'<line x1="{start:.1f}" y1="{y(miou):.1f}" x2="{start + 24:.1f}" y2="{at - 4:.1f}" '
            f'stroke="{_colour(name)}" stroke-width="0.7"/>'
        )
        parts.append(f'<text x="{start + 28:.1f}" y="{at:.1f}" fill="{_colour(name, dark=True)}">{escape(name)}</text>')
        below = at
    return parts


def _colour(name: str, *, dark: bool = False) -> str:
    return _HIGHLIGHT.get(name, "#5a6570" if dark else _OTHERS)
