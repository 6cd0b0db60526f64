"""The whole chain on CamVid: select, CCS head, prune, fine-tune, fold, export; several seeds, with controls.

    python benchmarks/camvid_chain.py --root .../camvid --out runs/camvid

runs every job (finished ones are kept, so it can be interrupted) and writes docs/results/camvid.md. Each job is a
process of its own on one CPU thread, `--jobs` at a time; times are CPU seconds of that process, which neighbours
disturb less than wall time. The table says how often a result was repeated and how far the repetitions spread.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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


def main() -> None:
    """Run one job, or all and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of CamVid")
    parser.add_argument("--out", type=Path, default=Path("runs/camvid"), help="where runs and results go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--table", type=Path, default=Path("docs/results/camvid.md"))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.job:
        _run_job(args.job, args.root, args.out)
        return
    for stage in _stages(args.seeds):
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: _spawn(job, args), stage))
    table = _table(args.out, args.seeds)
    args.table.parent.mkdir(parents=True, exist_ok=True)
    args.table.write_text(table)
    print(table)


def _stages(seeds: int) -> list[list[str]]:
    trainings = [f"train {name} {seed}" for name in TRAININGS for seed in range(seeds)]
    prunings = [f"prune {name} {seed}" for seed in range(seeds) for name in PRUNINGS]
    longer = [f"longer {name} {seed}" for seed in range(seeds) for name in LONGER]
    return [trainings, prunings + longer, ["export all 0"]]


def _spawn(job: str, args: argparse.Namespace) -> None:
    if _result_path(args.out, job).exists():
        return
    command = [sys.executable, __file__, "--root", args.root, "--out", str(args.out), "--job", job]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started_s = time.monotonic()
    subprocess.run(command, check=True, env=environment)
    print(f"{job}: {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)


def _result_path(out: Path, job: str) -> Path:
    return out / "results" / f"{job.replace(' ', '-')}.json"


def _run_job(job: str, root: str, out: Path) -> None:
    from prunekit.run import write_json

    kind, name, seed = job.split()
    work = {"train": _train, "prune": _prune, "longer": _train_longer, "export": _export}[kind]
    started_s, cpu_s = time.monotonic(), time.process_time()
    result = work(name, int(seed), root, out)
    result |= {"job": job, "wall_s": time.monotonic() - started_s, "cpu_s": time.process_time() - cpu_s}
    write_json(_result_path(out, job), result)


def _recipe(name: str, seed: int, root: str) -> Any:
    from prunekit.recipe import parse_recipe

    head, strategy = TRAININGS[name]
    return parse_recipe(
        {
            "data": {
                "name": "camvid",
                "root": root,
                "height": 180,
                "width": 240,
                "crop_height": 160,
                "crop_width": 208,
            },
            "model": {"head": head},
            "train": {
                "epochs": EPOCHS,
                "lr": 4e-3,
                "precision": "bf16",
                "threads": 1,
                "eval_every": EPOCHS,
                "seed": seed,
                "checkpoint_every": 5,
            },
            "selection": {"strategy": strategy, "ratio": SELECT_RATIO},
        }
    )


def _run(out: Path, name: str) -> Any:
    from prunekit.run import RunDirectory

    (out / name).mkdir(parents=True, exist_ok=True)
    return RunDirectory(out / name)


def _train(name: str, seed: int, root: str, out: Path) -> dict[str, Any]:
    from prunekit.workflows.train import train

    report = train(_recipe(name, seed, root), _run(out, f"train-{name}-{seed}"), resume=False)
    return {
        "miou": report.miou,
        "iou": report.iou,
        "pruned_fraction": report.pruned_fraction,
        "train_wall_s": report.train_wall_s,
        "classes": report.card.class_names,
    }


def _prune(name: str, seed: int, root: str, out: Path) -> dict[str, Any]:
    from prunekit.workflows.prune import PruneConfig, prune_run

    del root  # in the run's own recipe
    source, settings = PRUNINGS[name]
    config = PruneConfig.model_validate({"ratio": RATIO, "epochs": TUNE_EPOCHS, "lr": 2e-3, "seed": seed, **settings})
    report = prune_run(_run(out, f"train-{source}-{seed}"), config, _run(out, f"prune-{name}-{seed}"))
    return {key: value for key, value in report.to_json().items() if key not in ("layers", "frozen")}


def _train_longer(name: str, seed: int, root: str, out: Path) -> dict[str, Any]:
    """Train the dense network on, exactly as a pruned one is fine-tuned: what the extra epochs alone bring."""
    from prunekit.data.registry import open_dataset
    from prunekit.modelfile import load_model
    from prunekit.training.loop import fit

    del root
    source = _run(out, f"train-{name}-{seed}")
    loaded, recipe = load_model(source), source.recipe()
    train = recipe.train.model_copy(update={"epochs": TUNE_EPOCHS, "lr": 2e-3, "seed": seed})
    report = fit(
        loaded.segmenter,
        recipe.model_copy(update={"train": train}),
        _run(out, f"longer-{name}-{seed}"),
        train_set=open_dataset(recipe.data, "train"),
        val_set=open_dataset(recipe.data, "val"),
        card=loaded.card,
        resume=False,
    )
    return {"miou": report.miou}


def _export(name: str, seed: int, root: str, out: Path) -> dict[str, Any]:
    """Export and measure: dense, pruned, and the CCS network unfolded and in both folds."""
    from prunekit.run import RunDirectory
    from prunekit_export.running import ProfileConfig, evaluate_model, profile_models
    from prunekit_export.workflow import ExportConfig, Fold, export_model

    del name, root
    jobs: dict[str, tuple[str, Fold]] = {
        "dense": (f"train-full-{seed}", "exact"),
        "pruned": (f"prune-sirfp-{seed}", "exact"),
        "ccs, not folded": (f"train-ccs-{seed}", "none"),
        "ccs, exact fold": (f"train-ccs-{seed}", "exact"),
        "ccs, static fold": (f"train-ccs-{seed}", "static"),
        "ccs, pruned, exact fold": (f"prune-sirfp-ccs-{seed}", "exact"),
        "ccs, pruned, static fold": (f"prune-sirfp-ccs-{seed}", "static"),
    }
    rows: dict[str, dict[str, Any]] = {}
    paths: list[Path] = []
    for label, (source, fold) in jobs.items():
        folder = out / "export" / label.replace(", ", "-").replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        outcome = export_model(RunDirectory(out / source), ExportConfig(fold=fold, precision="fp16"), folder)
        paths.append(outcome.summary.onnx_path)
        data = RunDirectory(out / source).recipe().data
        fp16 = outcome.summary.parity_fp16
        rows[label] = {
            "macs": outcome.macs,
            "params": outcome.params,
            "onnx_bytes": outcome.summary.onnx_bytes,
            "parity": outcome.summary.parity.max_rel,
            "parity_fp16": fp16.max_rel if fp16 else None,
            "fold_error": outcome.folded.max_relative_error if outcome.folded else None,
            "fold_agreement": outcome.folded.label_agreement if outcome.folded else None,
            "miou": evaluate_model(outcome.summary.onnx_path, data=data, threads=1).metrics["miou"],
        }
    profile = profile_models(paths, ProfileConfig(threads=1, runs=200))
    for row, model in zip(rows.values(), profile.models, strict=True):
        row |= {"p50_ms": model.latency.p50_ms, "p90_ms": model.latency.p90_ms, "ran_on": model.ran_on}
    return {"rows": rows}


def _table(out: Path, seeds: int) -> str:
    def results(kind: str, name: str) -> list[dict[str, Any]]:
        return [json.loads(_result_path(out, f"{kind} {name} {seed}").read_text()) for seed in range(seeds)]

    full = results("train", "full")
    lines = [
        "# CamVid: the whole chain",
        "",
        (
            f"`python benchmarks/camvid_chain.py --root .../camvid`: {seeds} seeds, street_net (0.94 M parameters) from "
            f"scratch, {EPOCHS} epochs at 180x240 (crops 160x208), bf16 autocast, one CPU thread a job. mIoU on the 101 "
            "validation images at their own 360x480, 11 classes, mean over seeds with the smallest and largest in brackets."
        ),
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
        rows = results("train", name)
        shares = [row["cpu_s"] / base["cpu_s"] for row, base in zip(rows, full, strict=True)]
        pruned = sum(row["pruned_fraction"] for row in rows) / seeds
        lines.append(f"| {_LABELS[name]} | {_spread(rows, 'miou')} | {pruned:.3f} | {_spread_of(shares, 2)} |")
    lines += [
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
            f"| {head}dense | 1 | 1 | | {_spread(results('train', name), 'miou')} | |",
            f"| {head}dense, same extra training | 1 | 1 | | {_spread(results('longer', name), 'miou')} | |",
        ]
    for name in PRUNINGS:
        rows = results("prune", name)
        macs = _spread_of([row["macs_after"] / row["macs_before"] for row in rows], 3)
        params = _spread_of([row["params_after"] / row["params_before"] for row in rows], 3)
        worst = max(row["exactness"] for row in rows)
        after = _spread(rows, "miou_after")
        lines.append(f"| pruned, {name} | {macs} | {params} | {_spread(rows, 'miou_pruned')} | {after} | {worst:.0e} |")
    return "\n".join([*lines, *_export_lines(out), "", _total(out), ""])


_LABELS = {
    "full": "full data, plain head",
    "pfb": "PFB, plain head",
    "random": "random, plain head",
    "ccs": "full data, CCS head",
}


def _total(out: Path) -> str:
    seconds = [json.loads(path.read_text())["wall_s"] for path in (out / "results").glob("*.json")]
    return f"{len(seconds)} jobs, {sum(seconds) / 60:.0f} minutes of one thread in all."


def _export_lines(out: Path) -> list[str]:
    rows = json.loads(_result_path(out, "export all 0").read_text())["rows"]
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


if __name__ == "__main__":
    main()
