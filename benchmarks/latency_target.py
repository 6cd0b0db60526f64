r"""A latency target against MAC targets: time and mIoU on CamVid after the same fine-tuning, several seeds.

    python benchmarks/latency_target.py --out runs/criteria

takes the dense networks of `criteria.py` (run that first with `--only sirfp`, same --out, --epochs and --tune-epochs), cuts
them in several ways, times all in turns in one thread of ONNX Runtime with nothing beside, fine-tunes them (`--jobs` at a
time), and writes docs/results/latency_target.md. What is finished is kept, so it can be interrupted.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import criteria
import torch
from criteria_lab import Lab, Variant
from criteria_table import result_path
from equal_macs import Keep, at_share_of_macs

from prunekit.models.segmenter import Segmenter
from prunekit.pruning.allocation import PolicyName, Target, allocate
from prunekit.pruning.analysis import analyse
from prunekit.pruning.latency import LatencyTable, meet_latency
from prunekit.run import write_json
from prunekit_export.latency import LatencyMeter, open_meter
from prunekit_export.latency.meter import compare_latencies

Shape = tuple[int, int, int, int]
ROWS = {
    "dense": "dense",
    "uniform": "MACs, uniform",
    "macs": "MACs, cost",
    "balanced": "latency for as many MACs, balanced",
    "latency": "latency of MACs, uniform: cost",
}
TABLE = Path("docs/results/latency_target.md")


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/criteria"), help="where criteria.py wrote")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50, help="of the dense networks")
    parser.add_argument("--tune-epochs", type=int, default=3)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5], help="of the MACs that go")
    parser.add_argument("--align", type=int, default=8)
    parser.add_argument("--size", default="180x240", help="of the image that is timed, HxW")
    parser.add_argument("--jobs", type=int, default=2, help="fine-tunings at a time")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.job:
        row, ratio, seed = args.job.split("|")
        write_json(_tuned_path(args.job, args), tuned(row, float(ratio), int(seed), args))
        return
    for seed in range(args.seeds):
        _time_missing(seed, args)
    rows = [row for row in ROWS if row != "dense"]
    jobs = [f"{row}|{ratio}|{seed}" for seed in range(args.seeds) for ratio in args.ratios for row in rows]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda job: _spawn(job, args), jobs))
    text = page(args)
    args.table.parent.mkdir(parents=True, exist_ok=True)
    args.table.write_text(text)
    print(text)


def _time_missing(seed: int, args: argparse.Namespace) -> None:
    paths = {ratio: _timed_path(ratio, seed, args) for ratio in args.ratios}
    missing = {ratio: path for ratio, path in paths.items() if not path.exists()}
    if not missing:
        return
    timing = Timing(seed, args)
    for ratio, path in missing.items():
        write_json(path, timing.measured(ratio))
        print(f"{time.strftime('%H:%M:%S')} {path.stem}", file=sys.stderr, flush=True)


def _timed_path(ratio: float, seed: int, args: argparse.Namespace) -> Path:
    return result_path(args.out, f"timed|{args.size}|{args.align}|{ratio}|{seed}")


def _tuned_path(job: str, args: argparse.Namespace) -> Path:
    return result_path(args.out, f"tuned|{args.size}|{args.align}|{job}")


def _timed(ratio: float, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    return json.loads(_timed_path(ratio, seed, args).read_text())


def _spawn(job: str, args: argparse.Namespace) -> None:
    if _tuned_path(job, args).exists():
        return
    command = [sys.executable, __file__, "--out", str(args.out), "--tune-epochs", str(args.tune_epochs), "--job", job]
    command += ["--align", str(args.align), "--size", args.size]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    print(f"{time.strftime('%H:%M:%S')} tuned {job}", file=sys.stderr, flush=True)


class Timing:
    """One dense network and its cuts, timed."""

    def __init__(self, seed: int, args: argparse.Namespace) -> None:
        self.lab, self.align = Lab(seed, args), args.align
        self.shape: Shape = (1, 3, *criteria.pixels(args.size))
        # The cost in MACs is that of the image that is timed; names and widths are those of the lab's coupling.
        self.coupling = analyse(self.lab.segmenter.network, (torch.zeros(self.shape),))
        self.meter: LatencyMeter = open_meter("ort", threads=1)
        self.table: LatencyTable = self.meter.table(self.lab.segmenter, self.shape, self.coupling)
        self.rankings = self.lab.rank(Variant("sirfp"))

    def measured(self, ratio: float) -> dict[str, Any]:
        """Return the kept units, share of MACs and latency [ms] of each row."""
        keeps = self._keeps(ratio)
        cut = {row: self.lab.cut(keep, fold=True, norms=True) for row, keep in keeps.items()}
        reports = compare_latencies({"dense": self.lab.segmenter, **cut}, self.shape, threads=1)
        rows = {
            row: {"keep": keep, "macs": self._share(keep), "ms": reports[row].p50_ms} for row, keep in keeps.items()
        }
        machine = self.meter.machine
        return {
            "dense": {"macs": 1.0, "ms": reports["dense"].p50_ms},
            **rows,
            "runs": reports["dense"].runs,
            "machine": f"{machine.device}, {machine.runtime}",
        }

    def _keeps(self, ratio: float) -> dict[str, Keep]:
        keeps = {
            "uniform": self._allocated(Target("ratio", ratio), "uniform"),
            "macs": self._allocated(Target("ratio", ratio), "cost"),
            "balanced": at_share_of_macs(
                self.coupling, self.table.dense_ms, 1 - ratio, lambda ms: self._by_latency(ms, "balanced", self.table)
            ),
        }
        return {**keeps, "latency": self._as_fast_as(self.lab.cut(keeps["uniform"], fold=True, norms=True))}

    def _as_fast_as(self, other: Segmenter) -> Keep:
        target_ms = self.meter.network_ms(other, self.shape)
        segmenter = self.lab.segmenter
        outcome = meet_latency(
            segmenter.network,
            self.coupling,
            self.table,
            target_ms,
            choose=lambda table: self._by_latency(target_ms, "cost", table),
            measure_ms=lambda network: self.meter.network_ms(
                Segmenter(network, segmenter.num_classes, segmenter.stride), self.shape
            ),
        )
        return {name: list(kept) for name, kept in outcome.best.keep.items()}

    def _by_latency(self, target_ms: float, policy: PolicyName, table: LatencyTable) -> Keep:
        return self._allocated(Target("latency", target_ms), policy, table)

    def _allocated(self, target: Target, policy: PolicyName, table: LatencyTable | None = None) -> Keep:
        return allocate(self.coupling, self.rankings, target, policy=policy, align=self.align, table=table).keep

    def _share(self, keep: Keep) -> float:
        return self.coupling.macs(keep) / self.coupling.macs()


def tuned(row: str, ratio: float, seed: int, args: argparse.Namespace) -> dict[str, float | None]:
    """Return the mIoU of one cut network, compensated and fine-tuned."""
    lab, keep = Lab(seed, args), _timed(ratio, seed, args)[row]["keep"]
    cut = lab.cut(keep, fold=True, norms=True)
    return {"miou_compensated": lab.miou(cut), "miou_after": lab.tuned(cut, lab.card(keep))}


def page(args: argparse.Namespace) -> str:
    """Return the page."""
    first = _timed(args.ratios[0], 0, args)
    lines = [
        "# A latency target against MAC targets\n",
        f"`python benchmarks/latency_target.py{_options(args)}`: {criteria.subject(args.out, 0)}, {args.epochs} epochs, sirfp, widths "
        f"multiples of {args.align}, compensated, {args.tune_epochs} epochs of fine-tuning, {args.seeds} seeds; the dense network "
        f"had the same extra training. {first['machine']}, one thread, fp32, batch 1, {args.size}; the networks of a seed and a share "
        "took turns. Means, smallest and largest in brackets; efficiency = speed-up x share of MACs kept.\n",
    ]
    for ratio in args.ratios:
        lines += [f"## {ratio:.0%} of the MACs gone, or the time that takes\n", *_block(ratio, args), ""]
    return "\n".join(lines).rstrip() + "\n"


def _options(args: argparse.Namespace) -> str:
    defaults = {"epochs": 50, "tune_epochs": 3, "seeds": 3, "align": 8, "size": "180x240"}
    typed = {name: getattr(args, name) for name, default in defaults.items() if getattr(args, name) != default}
    shown = [f"--{name.replace('_', '-')} {value}" for name, value in typed.items()]
    shown += [f"--ratios {' '.join(map(str, args.ratios))}"] if args.ratios != [0.5] else []
    shown += [f"--table {shlex.quote(str(args.table))}"] if args.table != TABLE else []
    return "".join(f" {option}" for option in shown)


def _block(ratio: float, args: argparse.Namespace) -> list[str]:
    timed = [_timed(ratio, seed, args) for seed in range(args.seeds)]
    lines = [
        "| target | MACs kept | latency [ms] | speed-up | efficiency | compensated mIoU | fine-tuned mIoU |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, name in ROWS.items():
        speed_ups = [one["dense"]["ms"] / one[row]["ms"] for one in timed]
        mious = [_mious(row, ratio, seed, args) for seed in range(args.seeds)]
        cells = [
            name,
            f"{_mean([one[row]['macs'] for one in timed]):.3f}",
            _spread([one[row]["ms"] for one in timed], 2),
        ]
        cells += [_spread(speed_ups, 2)]
        cells += [_spread([up * one[row]["macs"] for up, one in zip(speed_ups, timed, strict=True)], 2)]
        cells += [_spread([miou[when] for miou in mious], 3) for when in ("miou_compensated", "miou_after")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mious(row: str, ratio: float, seed: int, args: argparse.Namespace) -> dict[str, float]:
    if row != "dense":
        return json.loads(_tuned_path(f"{row}|{ratio}|{seed}", args).read_text())
    longer = json.loads(result_path(args.out, f"longer|{seed}").read_text())["miou_after"]
    return {"miou_compensated": longer, "miou_after": longer}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _spread(values: list[float], digits: int) -> str:
    return f"{_mean(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
