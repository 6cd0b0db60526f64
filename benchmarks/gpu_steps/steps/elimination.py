"""Step elimination: pruning's own arithmetic - orders of channels, analysis, a cut - on the GPU and on its host."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_steps.networks import DENSE, family, subjects
from gpu_steps.step import Bench, Job, Row, Step
from gpu_steps.tables import table
from prunekit.pruning import analyse, arbitrary_plan, pruned
from prunekit.pruning.clique import greedy_orders
from prunekit.pruning.criteria.elimination import Consumer, eliminate
from prunekit.pruning.criteria.sirfp import RIDGE
from prunekit_runtime.measuring.frames import median_interval_ms

WIDTHS, DRY_WIDTHS = (64, 256, 512, 1024, 2048), (8, 16)
RUNS, DRY_RUNS = 7, 1
_COPIES = 8  # groups of one width that the clique orders together


def jobs(bench: Bench) -> Sequence[Job]:
    """Return the jobs of widths, then those of networks."""
    found: list[Job] = []
    for width in DRY_WIDTHS if bench.dry_run else WIDTHS:
        found.append(Job(f"sirfp, {width} channels", functools.partial(_elimination, bench, width)))
        found.append(Job(f"clique, {_COPIES} x {width} channels", functools.partial(_clique, bench, width)))
    for name, subject in subjects(bench).items():
        found.append(Job(f"analysis, {name}", functools.partial(_analysis, bench, name), subject.needs))
        found.append(Job(f"plan and cut, {name}", functools.partial(_cut, bench, name), subject.needs))
    return found


def _elimination(bench: Bench, width: int) -> dict[str, Any]:
    """Time the elimination as the criterion calls it: the moments come from the device, the host orders."""
    generator = torch.Generator().manual_seed(0)
    features_CN = torch.randn(width, 4 * width, generator=generator, dtype=torch.float64).sub(0.5).relu()
    weight_CO = torch.randn(width, width, generator=generator, dtype=torch.float64)
    moment_CC = (features_CN @ features_CN.T / (4 * width)).float().to(bench.device)
    influence_CC = weight_CO @ weight_CO.T
    return _timed(
        bench, lambda: eliminate([Consumer(moment_CC.double().cpu(), influence_CC)], RIDGE), "host, copied first"
    )


def _clique(bench: Bench, width: int) -> dict[str, Any]:
    matrices = [_cosines(width, seed).to(bench.device) for seed in range(_COPIES)]
    return _timed(bench, lambda: greedy_orders(matrices), bench.device)


def _cosines(width: int, seed: int) -> Tensor:
    features_CN = torch.randn(width, 256, generator=torch.Generator().manual_seed(seed)).sub(0.5).relu()
    unit_CN = torch.nn.functional.normalize(features_CN, dim=1)
    return (unit_CN @ unit_CN.T).fill_diagonal_(0)


def _analysis(bench: Bench, name: str) -> dict[str, Any]:
    found, subject = family(name, bench.device), subjects(bench)[name]
    image_13HW = torch.zeros(1, 3, subject.height, subject.width, device=bench.device)
    network = found.members[DENSE].network
    return _timed(bench, lambda: analyse(network, (image_13HW,)), bench.device, runs=3)


def _cut(bench: Bench, name: str) -> dict[str, Any]:
    found, subject = family(name, bench.device), subjects(bench)[name]
    network = found.members[DENSE].network

    def run() -> object:
        return pruned(network, arbitrary_plan(found.coupling, 0.5, align=subject.align))

    return _timed(bench, run, bench.device, runs=3)


def _timed(bench: Bench, run: Callable[[], object], where: str, runs: int = RUNS) -> dict[str, Any]:
    """Time calls by the clock, the device waited for, after one that does not count."""
    samples_ms: list[float] = []
    for _ in range(1 + (DRY_RUNS if bench.dry_run else runs)):
        started_s = time.monotonic()
        run()
        if bench.device == "cuda":
            torch.cuda.synchronize()
        samples_ms.append((time.monotonic() - started_s) * 1e3)
    low_ms, high_ms = median_interval_ms(samples_ms[1:])
    return {
        "where": where,
        "ms": float(np.median(samples_ms[1:])),
        "low_ms": low_ms,
        "high_ms": high_ms,
        "runs": len(samples_ms) - 1,
    }


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        "Time by the clock until the result is there, median and its 95 % bootstrap interval after a run that does not count. "
        "`sirfp`: all channels of a group with one reader, backward elimination. Its arithmetic is float64 on the host, "
        "to which the moments are copied. The clique orders all channels of several groups together, one removal a step on a GPU."
    )
    lines = [
        [key, str(row["where"]), f"{row['ms']:.1f} ({row['low_ms']:.1f}..{row['high_ms']:.1f})", str(row["runs"])]
        for key, row in rows.items()
    ]
    return [how, "", *table(("what", "where", "time [ms]", "runs"), lines)]


STEP = Step("elimination", "Pruning: the cost of the arithmetic", (), (), jobs, _table)
