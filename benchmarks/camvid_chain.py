"""The whole chain on CamVid: select, CCS head, prune, fine-tune, fold, export; several seeds, with controls.

    python benchmarks/camvid_chain.py --root .../camvid --out runs/camvid

runs every job (finished ones are kept, so it can be interrupted) and writes docs/results/camvid.md. Each job is a
process of its own on one CPU thread, `--jobs` at a time; times are CPU seconds of that process, which neighbours
disturb less than wall time. The table says how often a result was repeated and how far the repetitions spread.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from camvid_table import EPOCHS, LONGER, PRUNINGS, RATIO, SELECT_RATIO, TRAININGS, TUNE_EPOCHS, page, result_path


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
    text = page(args.out, args.seeds)
    args.table.parent.mkdir(parents=True, exist_ok=True)
    args.table.write_text(text)
    print(text)


def _stages(seeds: int) -> list[list[str]]:
    trainings = [f"train {name} {seed}" for name in TRAININGS for seed in range(seeds)]
    prunings = [f"prune {name} {seed}" for seed in range(seeds) for name in PRUNINGS]
    longer = [f"longer {name} {seed}" for seed in range(seeds) for name in LONGER]
    return [trainings, prunings + longer, ["export all 0"]]


def _spawn(job: str, args: argparse.Namespace) -> None:
    if result_path(args.out, job).exists():
        return
    command = [sys.executable, __file__, "--root", args.root, "--out", str(args.out), "--job", job]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started_s = time.monotonic()
    subprocess.run(command, check=True, env=environment)
    print(f"{job}: {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)


def _run_job(job: str, root: str, out: Path) -> None:
    from prunekit.run import write_json

    kind, name, seed = job.split()
    work = {"train": _train, "prune": _prune, "longer": _train_longer, "export": _export}[kind]
    started_s, cpu_s = time.monotonic(), time.process_time()
    result = work(name, int(seed), root, out)
    result |= {"job": job, "wall_s": time.monotonic() - started_s, "cpu_s": time.process_time() - cpu_s}
    write_json(result_path(out, job), result)


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
        fp16 = outcome.summary.parity_half
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


if __name__ == "__main__":
    main()
