"""Step collection: what measuring redundancy adds to a training step, in time and memory."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from gpu_steps.networks import CLASSES, DENSE, family, subjects
from gpu_steps.step import Bench, Job, Row, Step
from gpu_steps.tables import ratio_cell, table, time_cell, verdict_cell
from gpu_steps.timing import DRY, Effort, compare, stopwatch_of
from prunekit.pruning.evidence import POSITIONS, Collector

EFFORT = Effort(budget_s=20.0, block_ms=0.0)
EVERY = 10
"""Of how many steps one is measured, in a training that measures as it goes."""
MEASURED = "measured"


def jobs(bench: Bench) -> Sequence[Job]:
    """Return a job a network and batch size."""
    batches = (2,) if bench.dry_run else (2, 8)
    return [
        Job(f"{name} | batch {batch}", lambda n=name, b=batch: _row(bench, n, b), subject.needs)
        for (name, subject), batch in itertools.product(subjects(bench).items(), batches)
    ]


def _row(bench: Bench, name: str, batch: int) -> dict[str, Any]:
    found, subject = family(name, bench.device), subjects(bench)[name]
    network = copy.deepcopy(found.members[DENSE]).train()
    images_B3HW = torch.randn(batch, 3, subject.crop, subject.crop, device=bench.device)
    labels_BHW = torch.randint(CLASSES, (batch, subject.crop, subject.crop), device=bench.device)
    collector = Collector(network.network, found.coupling)

    def plain() -> None:
        for parameter in network.parameters():
            parameter.grad = None
        F.cross_entropy(network(images_B3HW), labels_BHW).backward()

    def measured() -> None:
        with collector:
            plain()

    effort = DRY if bench.dry_run else EFFORT
    times = compare({DENSE: plain, MEASURED: measured}, stopwatch_of(bench.device), effort, bench.device)
    memory = {DENSE: _peak_MiB(plain, bench.device), MEASURED: _peak_MiB(measured, bench.device)}
    sizes = [
        one.moment_UU.numel() + one.sum_U.numel() for seen in collector.statistics().groups.values() for one in seen
    ]
    sums_MiB = 4 * sum(sizes) / 2**20
    return {**times, "network": name, "batch": batch, "crop": subject.crop, "peak_MiB": memory, "sums_MiB": sums_MiB}


def _peak_MiB(run: Callable[[], None], device: str) -> float | None:
    """Return the most memory that a step holds; None on a CPU."""
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        f"Forward and backward in float32 on noise, with and without measuring {POSITIONS} places of every layer, in turns: "
        "the time of a measured step over that of a plain one with its 95 % bootstrap interval. A training that measures "
        f"every {EVERY}th step pays a tenth of it. Memory: the running sums in float32, and the highest that torch allocated in a "
        "step of either kind, the sums included in both."
    )
    header = ("network", "batch x crop", "plain step [ms]", "measured / plain", f"every {EVERY}th step", "sums [MiB]")
    lines = [_cells(row) for row in rows.values()]
    return [how, "", *table((*header, "peak, plain [MiB]", "peak, measured [MiB]", "verdict"), lines)]


def _cells(row: Row) -> list[str]:
    speedup = row["candidates"][MEASURED]["speedup"]
    slower = {"ratio": 1 / speedup["ratio"], "low": 1 / speedup["high"], "high": 1 / speedup["low"]}
    cells = [str(row["network"]), f"{row['batch']} x {row['crop']}", time_cell(row["candidates"][DENSE])]
    cells += [ratio_cell(slower), f"{(slower['ratio'] - 1) / EVERY:+.2%}", f"{row['sums_MiB']:.0f}"]
    peaks = ["-" if peak is None else f"{peak:.0f}" for peak in row["peak_MiB"].values()]
    return [*cells, *peaks, verdict_cell(row)]


STEP = Step("collection", "Measuring redundancy: what it adds to a training step", (), (), jobs, _table)
