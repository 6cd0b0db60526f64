"""What `camvid_chain.py` does, where its results lie, and the page of them."""

import json
from pathlib import Path
from typing import Any

EPOCHS = 30
TUNE_EPOCHS = 10
RATIO = 0.5
SELECT_RATIO = 0.4
# name -> (head, strategy)
TRAININGS = {
    "full": ("plain", "none"),
    "ccs": ("ccs", "none"),
    "pfb": ("plain", "pfb"),
    "random": ("plain", "random"),
}
_BARE = {"compensate": "none", "bn_batches": 0}
# name -> (training it starts from, settings that are not the defaults); criteria.py compares all criteria
PRUNINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sirfp": ("full", {"criterion": "sirfp", "allocation": "uniform"}),
    "random": ("full", {"criterion": "random"}),
    "l2-bare": ("full", {"criterion": "l2", **_BARE}),
    "sirfp-ccs": ("ccs", {"criterion": "sirfp", "allocation": "uniform"}),
}
LONGER = ("full", "ccs")
_LABELS = {
    "full": "full data, plain head",
    "pfb": "PFB, plain head",
    "random": "random, plain head",
    "ccs": "full data, CCS head",
}


def result_path(out: Path, job: str) -> Path:
    """Return the file of one job's result."""
    return out / "results" / f"{job.replace(' ', '-')}.json"


def _results(out: Path, seeds: int, kind: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(result_path(out, f"{kind} {name} {seed}").read_text()) for seed in range(seeds)]


def page(out: Path, seeds: int) -> str:
    """Return the page."""
    lines = [
        "# CamVid: the whole chain",
        "",
        (
            f"`python benchmarks/camvid_chain.py --root .../camvid`: {seeds} seeds, street_net (0.94 M parameters) from "
            f"scratch, {EPOCHS} epochs at 180x240 (crops 160x208), bf16 autocast, one CPU thread a job. mIoU on the 101 "
            "validation images at their own 360x480, 11 classes, mean over seeds with the smallest and largest in brackets."
        ),
    ]
    lines += [*_trainings(out, seeds), *_prunings(out, seeds), *_export_lines(out), "", _total(out), ""]
    return "\n".join(lines)


def _trainings(out: Path, seeds: int) -> list[str]:
    full = _results(out, seeds, "train", "full")
    lines = [
        "",
        "## Sample selection and head",
        "",
        (
            f"Same epochs, same recipe; the flag is {SELECT_RATIO} at the plateau, the realised share follows from the ramp "
            "and the full-data ends. CPU time is the whole job, evaluation included, relative to full data of the same seed."
        ),
        "",
        "| training | mIoU | pruned fraction, realised | CPU time / full |",
        "| --- | --- | --- | --- |",
    ]
    for name in TRAININGS:
        rows = _results(out, seeds, "train", name)
        shares = [row["cpu_s"] / base["cpu_s"] for row, base in zip(rows, full, strict=True)]
        pruned = sum(row["pruned_fraction"] for row in rows) / seeds
        lines.append(f"| {_LABELS[name]} | {_spread(rows, 'miou')} | {pruned:.3f} | {_spread_of(shares, 2)} |")
    return lines


def _prunings(out: Path, seeds: int) -> list[str]:
    lines = [
        "",
        f"## Pruning {RATIO:.0%} of the MACs",
        "",
        (
            f"From the networks that were trained on all samples (`sirfp-ccs` from those with a CCS head), in equal shares of every group, {TUNE_EPOCHS} epochs of fine-tuning at 2e-3, widths multiples of 8, compensated and with "
            "new batch-norm statistics where not called bare. The controls train the unpruned networks for the same extra epochs."
        ),
        "",
        "| network | MACs left | params left | mIoU as cut | mIoU after fine-tuning | exactness |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in LONGER:
        head = "" if name == "full" else f"{name}, "
        lines += [
            f"| {head}dense | 1 | 1 | | {_spread(_results(out, seeds, 'train', name), 'miou')} | |",
            f"| {head}dense, same extra training | 1 | 1 | | {_spread(_results(out, seeds, 'longer', name), 'miou')} | |",
        ]
    for name in PRUNINGS:
        rows = _results(out, seeds, "prune", name)
        macs = _spread_of([row["macs_after"] / row["macs_before"] for row in rows], 3)
        params = _spread_of([row["params_after"] / row["params_before"] for row in rows], 3)
        worst = max(row["exactness"] for row in rows)
        after = _spread(rows, "miou_after")
        lines.append(f"| pruned, {name} | {macs} | {params} | {_spread(rows, 'miou_pruned')} | {after} | {worst:.0e} |")
    return lines


def _total(out: Path) -> str:
    seconds = [json.loads(path.read_text())["wall_s"] for path in (out / "results").glob("*.json")]
    return f"{len(seconds)} jobs, {sum(seconds) / 60:.0f} minutes of one thread in all."


def _export_lines(out: Path) -> list[str]:
    rows = json.loads(result_path(out, "export all 0").read_text())["rows"]
    dense = rows["dense"]
    lines = [
        "",
        "## Exported files",
        "",
        (
            f"Seed 0, batch 1, {dense['ran_on']}, one thread, the files measured in turns, 200 runs each. mIoU is that of "
            "the ONNX file. Parity: largest error against torch, relative to the largest logit, over three inputs; fp16 by "
            "the ONNX reference evaluator, since ONNX Runtime computes fp16 files in fp32 on a CPU. Fold: the folded "
            "network against the unfolded one on 16 training images."
        ),
        "",
        (
            "| file | MACs | params | mIoU | p50 [ms] | p90 [ms] | speed-up | parity fp32 | parity fp16 | fold error "
            "| labels equal |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for label, row in rows.items():
        fold = ("", "") if row["fold_error"] is None else (f"{row['fold_error']:.1e}", f"{row['fold_agreement']:.4f}")
        lines.append(
            f"| {label} | {row['macs'] / 1e6:.0f} M | {row['params'] / 1e6:.3f} M | {row['miou']:.3f} | "
            f"{row['p50_ms']:.2f} | {row['p90_ms']:.2f} | {dense['p50_ms'] / row['p50_ms']:.2f} | "
            f"{row['parity']:.1e} | {row['parity_fp16']:.1e} | {fold[0]} | {fold[1]} |"
        )
    return lines


def _spread(rows: list[dict[str, Any]], key: str) -> str:
    return _spread_of([row[key] for row in rows], 3)


def _spread_of(values: list[float], digits: int) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"
