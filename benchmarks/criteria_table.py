"""What `criteria.py` measured, as a Markdown page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
