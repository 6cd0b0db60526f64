"""Can the numbers of `prunekit profile` be believed? What its harness costs, and what it says on a busy machine.

    python benchmarks/profile_trust.py

Overhead: blocks of bare calls of ONNX Runtime alternate with blocks of the same calls as `profile` times them; the ratio of
the medians is the overhead. Busy machine: `profile` measures the same file 20 times while other processes come and go on
every core, and each time it must either hold the quiet machine's median in its interval, or say that it is noisy.
Writes docs/results/profile_trust.md.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import prunekit
from prunekit_export.running import ProfileConfig, profile_models
from prunekit_runtime.running.ort import OrtRunner, require_onnxruntime

ROOT = Path(__file__).parent.parent
HEIGHT, WIDTH = 128, 192
BLOCKS, RUNS, REPEATS = 20, 60, 20
MARGIN = 0.01  # of the quiet median, which is itself measured


def main() -> None:
    """Measure both, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=ROOT / "docs/results/profile_trust.md", help="the page's file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = _file(Path(folder))
        ratios = overhead(file)
        quiet, rows = busy(file)
    args.to.write_text(_page(ratios, quiet, rows))


def _file(folder: Path) -> Path:
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())]
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), *layers, nn.Conv2d(32, 8, 1), nn.Upsample(scale_factor=2)
    )
    contract = prunekit.Preprocessing(HEIGHT, WIDTH)
    return prunekit.export(network.eval(), folder / "out", preprocessing=contract).onnx_path


def overhead(file: Path) -> list[float]:
    """Return, for each pair of blocks, the median of `profile`'s way over that of bare calls."""
    images = np.random.default_rng(0).standard_normal((1, 3, HEIGHT, WIDTH)).astype(np.float32)
    runtime = require_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = runtime.InferenceSession(str(file), sess_options=options, providers=["CPUExecutionProvider"])
    ratios = []
    with OrtRunner(file, threads=1):
        for _ in range(BLOCKS):
            bare_ms = _bare(session, images)
            report = profile_models([file], ProfileConfig(threads=1, warmup_runs=5, runs=RUNS))
            ratios.append(report.models[0].latency.p50_ms / bare_ms)
    return ratios


def _bare(session: Any, images: np.ndarray[Any, Any]) -> float:
    name, times_ms = session.get_inputs()[0].name, []
    for _ in range(RUNS + 5):
        begun_s = time.perf_counter()
        session.run(None, {name: images})
        times_ms.append(1e3 * (time.perf_counter() - begun_s))
    return statistics.median(times_ms[5:])


@dataclass(frozen=True)
class Quiet:
    """The same file where nothing else runs: the control, as a verdict of noisy for everything is worth nothing."""

    ms: float
    stable: int


def busy(file: Path) -> tuple[Quiet, list[dict[str, Any]]]:
    """Return the quiet machine's numbers, and what `profile` says of each repeat beside other work."""
    config = ProfileConfig(threads=1, warmup_runs=5, runs=200)
    quiet = [profile_models([file], config).models[0] for _ in range(REPEATS)]
    quiet_ms = statistics.median(found.latency.p50_ms for found in quiet)
    stable = sum(found.verdict == "stable" for found in quiet)
    rows = []
    with _others():
        for _ in range(REPEATS):
            found = profile_models([file], config).models[0]
            low_ms, high_ms = found.interval_ms
            agrees = low_ms * (1 - MARGIN) <= quiet_ms <= high_ms * (1 + MARGIN)
            rows.append(
                {
                    "p50_ms": found.latency.p50_ms,
                    "interval_ms": (low_ms, high_ms),
                    "agrees": agrees,
                    "verdict": found.verdict,
                }
            )
    return Quiet(quiet_ms, stable), rows


@contextmanager
def _others() -> Generator[None]:
    """Let one process a core work and rest, by turns of drawn length."""
    workers = [multiprocessing.Process(target=_work, args=(seed,), daemon=True) for seed in range(os.cpu_count() or 1)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()


def _work(seed: int) -> None:
    drawn = random.Random(seed)
    while True:
        until_s = time.monotonic() + drawn.uniform(0.05, 1.5)
        while time.monotonic() < until_s:
            sum(range(10_000))
        time.sleep(drawn.uniform(0.05, 1.5))


def _page(ratios: list[float], quiet: Quiet, rows: list[dict[str, Any]]) -> str:
    trusted = sum(row["agrees"] or row["verdict"] != "stable" for row in rows)
    low, high = np.quantile(ratios, [0.25, 0.75])
    lines = [
        "# Can the numbers of `prunekit profile` be believed?\n",
        "`python benchmarks/profile_trust.py`: a small network of convolutions in ONNX Runtime, one thread.\n",
        f"* Overhead: the median of `profile` over that of bare calls is {statistics.median(ratios):.4f} (middle half of "
        f"{len(ratios)} pairs of blocks: {low:.4f} to {high:.4f}).",
        f"* Busy machine: of {len(rows)} repeats beside one process a core that works and rests by turns, {trusted} either "
        f"hold the quiet machine's {quiet.ms:.3f} ms in their interval or say that they are noisy.",
        f"* Control: with nothing else running, {quiet.stable} of {REPEATS} repeats are called stable.\n",
        "| p50 [ms] | 95 % interval [ms] | holds the quiet median | verdict |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        low_ms, high_ms = row["interval_ms"]
        cells = (
            f"{row['p50_ms']:.3f}",
            f"{low_ms:.3f} to {high_ms:.3f}",
            "yes" if row["agrees"] else "no",
            row["verdict"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
