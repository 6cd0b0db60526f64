"""A latency target against a MAC target at the same latency: mIoU on CamVid after the same fine-tuning, several seeds.

    python benchmarks/latency_target.py --root .../camvid --out runs/criteria

takes the dense networks and the MAC-pruned results of `criteria.py` (run that first, same --out), asks for the latency that
its sirfp network at half of the MACs was measured to have, fine-tunes what comes out, and prints the table of
docs/results/latency_target.md. One thread of ONNX Runtime; the networks of a seed take turns. Finished seeds are kept.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import criteria
import torch
from criteria_table import result_path

from prunekit.models.segmenter import Segmenter
from prunekit.pruning.allocation import Target, allocate
from prunekit.pruning.latency_loop import meet_latency
from prunekit.run import write_json
from prunekit_export.latency_meter import compare_latencies, open_meter

RATIO = "0.5"
RUNS = 200
ROWS = {
    "dense": "dense",
    "uniform": "half of the MACs, uniform",
    "macs": "half of the MACs, cost",
    "latency": "latency",
}


def main() -> None:
    """Run the seeds that are missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("camvid", "shapes"), default="camvid")
    parser.add_argument("--root", default="", help="folder of CamVid")
    parser.add_argument("--out", type=Path, default=Path("runs/criteria"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50, help="of the dense networks")
    parser.add_argument("--tune-epochs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        path = result_path(args.out, f"latency_target|{seed}")
        if not path.exists():
            write_json(path, measure(seed, args))
        results.append(json.loads(path.read_text()))
    print(table(results, args))


def measure(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return latency, MACs and mIoU of one seed's networks."""
    lab = criteria.Lab(seed, args)
    size = (1, 3, lab.recipe.data.height, lab.recipe.data.width)
    meter = open_meter("ort", threads=1)
    rankings = lab.rank(criteria.Variant("sirfp"))
    keeps = {
        "macs": allocate(lab.coupling, rankings, Target("ratio", float(RATIO)), policy="cost").keep,
        "uniform": allocate(lab.coupling, rankings, Target("ratio", float(RATIO)), policy="uniform").keep,
    }
    target_ms = meter.network_ms(lab.cut(keeps["macs"], fold=True, norms=True), size)
    outcome = meet_latency(
        lab.segmenter.network,
        lab.coupling,
        meter.table(lab.segmenter, size, lab.coupling),
        target_ms,
        choose=lambda table: (
            allocate(lab.coupling, rankings, Target("latency", target_ms), policy="cost", table=table).keep
        ),
        measure_ms=lambda network: meter.network_ms(
            Segmenter(network, lab.segmenter.num_classes, lab.segmenter.stride), size
        ),
    )
    keeps["latency"] = {name: list(kept) for name, kept in outcome.best.keep.items()}
    cut = {name: lab.cut(keep, fold=True, norms=True) for name, keep in keeps.items()}
    reports = compare_latencies({"dense": lab.segmenter, **cut}, size, threads=1, runs=RUNS)
    result: dict[str, dict[str, float | None]] = {
        name: {"ms": latency.p50_ms, "macs": 1.0} for name, latency in reports.items()
    }
    for name, keep in keeps.items():
        result[name]["macs"] = lab.coupling.macs(keep) / lab.coupling.macs()
        result[name]["miou_compensated"] = lab.miou(cut[name])
        result[name]["miou_after"] = lab.tuned(cut[name], lab.card(keep))
    longer = json.loads(result_path(args.out, f"longer|{seed}").read_text())
    result["dense"]["miou_compensated"] = result["dense"]["miou_after"] = longer["miou_after"]
    return result


def table(results: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Return the page."""
    lines = [
        "# A latency target against a MAC target\n",
        f"`python benchmarks/latency_target.py --data {args.data}`: street_net on the networks of criteria.md, sirfp, widths "
        f"multiples of 8, {args.tune_epochs} epochs of fine-tuning, {args.seeds} seeds. Asked for: the latency that the "
        "network with half of the MACs was measured to have. ONNX Runtime on one CPU thread, fp32, batch 1, the four "
        f"networks of a seed in turns, {RUNS} runs each. Means, smallest and largest in brackets; the dense network had the "
        "same extra training.\n",
        "| target | MACs kept | latency [ms] | speed-up | compensated mIoU | fine-tuned mIoU |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, name in ROWS.items():
        cells = [name, f"{_mean([row[key]['macs'] for row in results]):.3f}"]
        cells += [_spread([row[key]["ms"] for row in results], 2)]
        cells += [_spread([row["dense"]["ms"] / row[key]["ms"] for row in results], 2)]
        cells += [_spread([row[key][when] for row in results], 3) for when in ("miou_compensated", "miou_after")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _spread(values: list[float], digits: int) -> str:
    return f"{_mean(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
