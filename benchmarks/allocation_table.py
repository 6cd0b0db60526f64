"""Prices against equal shares: the same criterion on several networks, from what `criteria.py` found.

    python benchmarks/criteria.py --root .../camvid --out runs/NAME ... --only sirfp "sirfp, uniform"
    python benchmarks/allocation_table.py runs/NAME ...

prints docs/results/allocation.md: a row for each network and share of the MACs that was cut both ways.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criteria import subject
from criteria_table import result_path

ROWS = {"prices": "sirfp", "equal shares": "sirfp, uniform"}
COLUMNS = ("network", "MACs gone", "seeds", "dense, same extra training", *ROWS, "prices - equal shares", "seeds ahead")


@dataclass(frozen=True)
class Network:
    """What one folder holds of a network: a result of each row for every seed."""

    out: Path
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, out: Path) -> "Network":
        """Find the seeds that were cut both ways."""
        seeds = [int(path.stem.rpartition("-")[2]) for path in (out / "results").glob("longer-*.json")]
        both = [all(result_path(out, f"prune|{name}|{seed}").exists() for name in ROWS.values()) for seed in seeds]
        return cls(out, tuple(sorted(seed for seed, done in zip(seeds, both, strict=True) if done)))

    def results(self, job: str) -> list[dict[str, Any]]:
        """Return one result a seed."""
        return [json.loads(result_path(self.out, f"{job}|{seed}").read_text()) for seed in self.seeds]

    def ratios(self) -> list[str]:
        """Return the shares that went on every seed both ways."""
        found = [set(row["ratios"]) for name in ROWS.values() for row in self.results(f"prune|{name}")]
        return sorted(set.intersection(*found), key=float)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outs", nargs="+", type=Path, help="folders that criteria.py wrote")
    networks = [Network.of(out) for out in parser.parse_args().outs]
    print("# Prices against equal shares\n")
    print(
        "`python benchmarks/allocation_table.py`, from results of `benchmarks/criteria.py`: channels chosen by `sirfp`, shared "
        "out by their prices for the MACs they save (`--allocation cost`, the default) or in equal shares (`uniform`), "
        "compensated and trained on the same way. Validation mIoU, mean over seeds, smallest and largest in brackets; the "
        "difference is taken seed by seed.\n"
    )
    for when, key in (("After fine-tuning", "miou_after"), ("Compensated, before any training", "miou_compensated")):
        print(f"## {when}\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
        for network in networks:
            for ratio in network.ratios():
                print(f"| {' | '.join(_cells(network, ratio, key))} |")
        print()
    print("\n".join(f"* {subject(network.out, network.seeds[0])}" for network in networks))


def _cells(network: Network, ratio: str, key: str) -> list[str]:
    priced, even = ([row["ratios"][ratio][key] for row in network.results(f"prune|{name}")] for name in ROWS.values())
    ahead = [one - other for one, other in zip(priced, even, strict=True)]
    name = subject(network.out, network.seeds[0]).split(" (")[0]
    dense = [row["miou_after"] for row in network.results("longer")]
    cells = [name, f"{float(ratio):.0%}", str(len(network.seeds)), _spread(dense), _spread(priced), _spread(even)]
    return [*cells, _spread(ahead, "+"), f"{sum(value > 0 for value in ahead)} of {len(ahead)}"]


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{sum(values) / len(values):{sign}.3f} ({min(values):{sign}.3f}..{max(values):{sign}.3f})"


if __name__ == "__main__":
    main()
