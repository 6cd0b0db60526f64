"""Rows as Markdown."""

from collections.abc import Mapping
from typing import Any, Final

from gpu_steps.networks import AGAIN, CUTS, DENSE
from gpu_steps.step import Row

CUT: Final = (
    "Cut by half: 50 % of the MACs go, the same share of every group of channels, which stay multiples of 8. Cut most: 75 %, of "
    "SegFormer-B0 60 %, since prunekit keeps the width of its embeddings and 75 % is out of reach. Weights are random."
)
GOAL: Final = 0.8
"""Efficiency: speed-up over the ratio of the MACs."""


def table(header: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """Return a table, ends of cells that hold a bar escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def latency_table(rows: Mapping[str, Row]) -> list[str]:
    """Return how fast each dense network is, and how much faster the cut ones are."""
    shown = [f"{name}: {what}" for name in CUTS for what in ("MACs", "speed-up", "efficiency")]
    header = ("network", "how", "dense [ms]", *shown, "dense, again", "verdict")
    return [
        CUT,
        "",
        "The speed-up is the ratio of medians over rounds in which all took turns, with its 95 % bootstrap interval; "
        f"efficiency is the speed-up over the ratio of the MACs (goal: {GOAL} with 75 % of the MACs gone in fp16). The same network "
        "measured a second time would show 1.",
        "",
        *table(header, [_latency_cells(row) for row in rows.values()]),
    ]


def _latency_cells(row: Row) -> list[str]:
    cells = [str(row["network"]), str(row["mode"]), time_cell(row["candidates"][DENSE])]
    for name in CUTS:
        speedup, ratio = row["candidates"][name]["speedup"], row["macs_ratio"][name]
        cells += [f"1/{ratio:.2f}", ratio_cell(speedup), f"{speedup['ratio'] / ratio:.2f}"]
    return [*cells, ratio_cell(row["candidates"][AGAIN]["speedup"]), verdict_cell(row)]


def time_cell(values: Mapping[str, Any], digits: int = 3) -> str:
    """Return a median with its interval."""
    return f"{values['ms']:.{digits}f} ({values['low_ms']:.{digits}f}..{values['high_ms']:.{digits}f})"


def ratio_cell(values: Mapping[str, float]) -> str:
    """Return a ratio with its interval."""
    return f"{values['ratio']:.3f} ({values['low']:.3f}..{values['high']:.3f})"


def verdict_cell(row: Row) -> str:
    """Return whether the dense network's times can be believed, and why not."""
    return "; ".join([str(row["verdict"]), *row["why"]])
