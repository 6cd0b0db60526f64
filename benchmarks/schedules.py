"""Ways to get from a dense network to a pruned one in the same number of epochs: `prunekit prune`, several seeds.

    python benchmarks/schedules.py --root .../camvid --out runs/criteria

takes the dense networks of `criteria.py` (run that first, same --out) and gives every row the same training in all: after
the cut, between cuts, or before it. Each run is the command that the row shows, in a process of its own on one CPU thread,
`--jobs` at a time; finished ones are kept. Prints the table of docs/results/schedules.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from criteria_lab import TUNE_LR, Lab

from prunekit.run import RunDirectory, write_json
from prunekit.workflows.prune import PruneReport, read_report

RATIOS = (0.5, 0.75)
EPOCHS = 6
LR = TUNE_LR
ROWS = (
    "--epochs 6",
    "--schedule iterative --stage-epochs 3 --epochs 3",
    "--schedule gradual --steps 3 --stage-epochs 2 --epochs 2",
    "--distill logits --epochs 6",
    "--distill channel --epochs 6",
    "--sparsity group --sparsity-epochs 3 --epochs 3",
    "--sparsity mask --sparsity-epochs 3 --epochs 3",
    "--sparsity l1 --sparsity-epochs 3 --epochs 3",
    "--sparsity polarisation --sparsity-epochs 3 --epochs 3",
    "--sampler balanced --epochs 6",
    "--loss gsrl --epochs 6",
    "--loss gsrl --sampler balanced --epochs 6",
    "--init random --epochs 6",
    "--criterion random --epochs 6",
    "--criterion random --schedule iterative --stage-epochs 3 --epochs 3",
    "--criterion sirfp-paper --epochs 6",
    "--criterion sirfp-paper --schedule iterative --stage-epochs 3 --epochs 3",
)
LONGER = "unpruned"


@dataclass(frozen=True)
class Job:
    """One run."""

    row: str
    ratio: float
    seed: int

    def place(self, out: Path) -> Path:
        """Return the folder of its run."""
        name = self.row.replace("--", "").replace(" ", "_")
        return out / "schedules" / f"{name}-{self.ratio:g}-{self.seed}"


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of CamVid")
    parser.add_argument("--out", type=Path, default=Path("runs/criteria"), help="where criteria.py wrote")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--longer", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.longer is not None:
        _train_on(args.longer, args)
        return
    seeds = range(args.seeds)
    jobs = [Job(row, ratio, seed) for row in ROWS for ratio in RATIOS for seed in seeds]
    calls = [_longer_command(seed, args) for seed in seeds if not _longer_path(seed, args.out).exists()]
    calls += [_command(job, args) for job in jobs if not _is_done(job, args.out)]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(_spawn, calls))
    longer = [json.loads(_longer_path(seed, args.out).read_text())["miou_after"] for seed in seeds]
    print(table({job: read_report(RunDirectory(job.place(args.out))) for job in jobs}, longer))


def _is_done(job: Job, out: Path) -> bool:
    report = job.place(out) / "prune.json"
    return report.exists() and read_report(RunDirectory(report.parent)).finished


def _command(job: Job, args: argparse.Namespace) -> list[str]:
    place = job.place(args.out)
    shutil.rmtree(place, ignore_errors=True)  # interrupted: seconds of work
    options = ["--ratio", f"{job.ratio:g}", *job.row.split(), "--lr", f"{LR:g}", "--seed", f"{job.seed}"]
    # sirfp in equal shares, which suits this network's half and quarter (docs/results/allocation.md).
    options += [] if "--criterion" in job.row else ["--allocation", "uniform"]
    source = args.out / f"train-{job.seed}"
    settings = ["--set", f"data.root={args.root}", "--out", str(place)]
    start = "from prunekit_cli.main import main; main()"
    return [sys.executable, "-c", start, "prune", str(source), *options, *settings]


def _longer_command(seed: int, args: argparse.Namespace) -> list[str]:
    return [sys.executable, __file__, "--root", args.root, "--out", str(args.out), "--longer", str(seed)]


def _longer_path(seed: int, out: Path) -> Path:
    return out / "schedules" / f"{LONGER}-{seed}.json"


def _train_on(seed: int, args: argparse.Namespace) -> None:
    lab = Lab(seed, argparse.Namespace(out=args.out, tune_epochs=EPOCHS))
    path = _longer_path(seed, args.out)
    path.parent.mkdir(exist_ok=True)
    write_json(path, lab.longer())


def _spawn(command: Sequence[str]) -> None:
    started_s = time.monotonic()
    done = subprocess.run(
        command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    print(f"{time.monotonic() - started_s:.0f} s {' '.join(command[4:])}", file=sys.stderr, flush=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr, flush=True)


def table(reports: Mapping[Job, PruneReport], longer: Sequence[float]) -> str:
    """Return the page."""
    seeds = sorted({job.seed for job in reports})
    lines = [
        "# Schedules, distillation, sparsity and losses\n",
        f"`python benchmarks/schedules.py --root .../camvid`: street_net on the dense networks of criteria.md, {len(seeds)} seeds, "
        f"{EPOCHS} epochs of training in all in every row, `prunekit prune --ratio R --lr {LR:g}` with the row's options, and `--allocation uniform` where no criterion is named. Validation "
        "mIoU, mean over seeds, smallest and largest in brackets. The last column is the mean difference to the first row, seed "
        "by seed, and on how many seeds it is above.\n",
        f"Unpruned, with the same {EPOCHS} epochs: {_spread(longer)}.\n",
    ]
    for ratio in RATIOS:
        lines += [f"## {ratio:.0%} of the MACs gone\n", *_block(reports, ratio, seeds), ""]
    return "\n".join(lines)


def _block(reports: Mapping[Job, PruneReport], ratio: float, seeds: Sequence[int]) -> list[str]:
    lines = [
        "| options | MACs kept | mIoU as cut last | mIoU | against the first row |",
        "| --- | --- | --- | --- | --- |",
    ]
    first = [_miou(reports[Job(ROWS[0], ratio, seed)]) for seed in seeds]
    for row in ROWS:
        found = [reports[Job(row, ratio, seed)] for seed in seeds]
        after = [_miou(report) for report in found]
        gains = [mine - theirs for mine, theirs in zip(after, first, strict=True)]
        kept = [report.macs_after / report.macs_before for report in found]
        cut = [_known(report.stages[-1].miou_pruned) for report in found]
        above = (
            f"{statistics.mean(gains):+.3f}, {sum(gain > 0 for gain in gains)} of {len(gains)}"
            if row != ROWS[0]
            else ""
        )
        cells = [f"`{row}`", f"{statistics.mean(kept):.3f}", _spread(cut), _spread(after), above]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _miou(report: PruneReport) -> float:
    return _known(report.stages[-1].miou)


def _known(miou: float | None) -> float:
    assert miou is not None, "every class is in the validation images"
    return miou


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}..{max(values):.3f})"


if __name__ == "__main__":
    main()
