"""What `pruning_latency.py` measures, where it keeps that, and the page of it."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunekit.pruning.latency import LatencyTable
from prunekit.run import write_json

SHARES = (0.5, 0.3, 0.25)
BOUND_ALIGN = 8
AT_EQUAL_MACS = "MACs, by latency"
MOST_MACS = "most MACs"
"""No policy of prunekit's: the widths that hold the most MACs in the time, whatever they are worth to the network."""
TORCH_PRUNING = "Torch-Pruning, uniform"
"""No policy of prunekit's either: another tool's."""


@dataclass(frozen=True)
class Variant:
    """One way to choose widths."""

    target: str
    """"MACs", "latency", or "MACs, by latency": a latency target chosen so that it leaves the share of the MACs."""
    policy: str
    align: int

    @property
    def name(self) -> str:
        """Key of the state file."""
        return f"{self.target} {self.policy} {self.align}"


VARIANTS = (
    Variant("MACs", TORCH_PRUNING, 1),
    Variant("MACs", TORCH_PRUNING, 8),
    Variant("MACs", TORCH_PRUNING, 16),
    Variant("MACs", "uniform", 1),
    Variant("MACs", "uniform", 8),
    Variant("MACs", "uniform", 16),
    Variant("MACs", "balanced", 8),
    Variant("latency", "uniform", 8),
    Variant("latency", "balanced", 8),
    Variant("latency", "balanced", 16),
    Variant("latency", MOST_MACS, 8),
    Variant(AT_EQUAL_MACS, "balanced", 8),
    Variant(AT_EQUAL_MACS, "balanced", 16),
    Variant(AT_EQUAL_MACS, MOST_MACS, 8),
)


class State:
    """Finished steps by key, in one JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def done(self, key: str) -> Any:
        """Return what a step gave, or None."""
        return self.values.get(key)

    def put(self, key: str, value: Any) -> Any:
        """Keep what a step gave."""
        self.values[key] = value
        write_json(self.path, self.values)
        print(f"{time.strftime('%H:%M:%S')} {key}", file=sys.stderr, flush=True)
        return value


def report(state: State, networks: Sequence[str], size: tuple[int, int]) -> str:
    """Return the page."""
    lines = [
        "# Latency of pruned networks\n",
        f"`python benchmarks/pruning_latency.py`: {size[0]}x{size[1]}, batch 1, ONNX Runtime on the CPU, one thread, random weights.",
        "Dense and pruned networks took turns in one run a block; median latency, 90th percentile in brackets.",
        "Efficiency = speed-up x share of MACs kept. MAC targets keep a share of the MACs, latency targets the same share of the",
        "dense latency, corrected by measuring; targets in MACs by latency are latencies asked of the table alone, chosen so that",
        "they leave the share of the MACs. Balanced: shares as even as the target allows. Padding: MACs that kernels of 16 channels spend for nothing, of the dense MACs.",
        "Most MACs: the widths with the most MACs for that time, whatever those are worth to the network; a search by the table",
        "alone; the proof (width_bound.py) says how near that is to the best there can be. Torch-Pruning: 1.6.1, the same share of",
        "the channels of every layer by L2 norm, heads ignored, counts rounded to multiples of `align`.\n",
    ]
    for name in networks:
        key = f"{name} {size[0]}x{size[1]}"
        machine, seconds = state.done(f"{key} table")["machine"], state.done(f"{key} table seconds")
        lines += [
            f"## {name}\n",
            f"{machine['device']}, {machine['runtime']}; the latency table took {seconds:.0f} s.\n",
        ]
        for share in SHARES:
            lines += _block(state, key, share)
    return "\n".join(lines)


def _block(state: State, key: str, share: float) -> list[str]:
    measured = state.done(f"{key} {share} measured")
    dense_ms = measured["dense"]["p50_ms"]
    least_ms = state.done(f"{key} {share} least ms")
    most = LatencyTable.from_json(state.done(f"{key} table")).dense_ms / least_ms * share
    lines = [
        f"Share {share}, dense {_spread(measured['dense'])} ms, {measured['dense']['runs']} runs. Proved by the table: at this share",
        f"of the MACs no widths in multiples of {BOUND_ALIGN} are predicted below {least_ms:.1f} ms, an efficiency of {most:.2f}.\n",
        "| target | allocation | align | MACs kept | predicted [ms] | latency [ms] | speed-up | efficiency | padding | networks measured |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for variant in VARIANTS:
        plan = state.done(f"{key} {share} {variant.name}")
        if "refused" in plan:
            lines.append(f"| {variant.target} | {variant.policy} | {variant.align} | {plan['refused']} |||||||")
            continue
        row = measured[variant.name]
        speed_up = dense_ms / row["p50_ms"]
        cells = (
            variant.target,
            variant.policy,
            f"{variant.align}",
            f"{plan['share']:.3f}",
            f"{plan['predicted_ms']:.1f}",
            _spread(row),
            f"{speed_up:.2f}",
            f"{speed_up * plan['share']:.2f}",
            f"{plan['padding']:.3f}" if "padding" in plan else "",
            f"{len(plan.get('rounds', []))}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _spread(row: Mapping[str, float]) -> str:
    return f"{row['p50_ms']:.2f} ({row['p90_ms']:.2f})"
