"""Which samples are worth a step: strategies beside plain trainings of as many steps, on CamVid, several seeds.

    python benchmarks/selection.py --root .../camvid --out runs/selection --jobs 2

Each row is a training of its own process and leaves a JSON file in --out; started again, the benchmark does what is
missing. Equal budgets are equal numbers of steps of equal batches, the learning rate falling to the end of each; random and
pfb skip part of each batch, so they take all steps and train on fewer images. The rows of fine-tuning start from the full
run of the same seed with half of its multiply-accumulates removed. `--table` writes docs/results/selection.md from what is
there; the scores are those of the validation and test images (two other videos are in the latter).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from processes import Limits, Row, Task, read_row, run_all, write_row

from prunekit.data.registry import open_dataset
from prunekit.modelfile import load_model
from prunekit.recipe import Recipe, merge, parse_recipe
from prunekit.run import RunDirectory
from prunekit.training.evaluate import evaluate
from prunekit.workflows.continuing import recipe_from
from prunekit.workflows.prune import prune_run
from prunekit.workflows.pruning.config import PruneConfig
from prunekit.workflows.train import train

SPLITS: dict[str, tuple[str, ...]] = {"camvid": ("val", "test"), "shapes": ("val",)}
"""By data set; the test of this benchmark trains on generated scenes."""
ROOT = Path(__file__).parent.parent
SAVING = {"selection.ratio": 0.4}
WEIGHTED = {"train.class_weights": "sqrt"}
TRAININGS: dict[str, dict[str, Any]] = {
    "full": {},
    "plain, 80 %": {"train.budget": 0.8},
    "plain, 60 %": {"train.budget": 0.6},
    "plain, 40 %": {"train.budget": 0.4},
    "random": {**SAVING, "selection.strategy": "random"},
    "pfb": {**SAVING, "selection.strategy": "pfb"},
    "rs2": {**SAVING, "selection.strategy": "rs2"},
    "classes": {**SAVING, "selection.strategy": "classes"},
    "plain, 60 %, class weights": {"train.budget": 0.6, **WEIGHTED},
    "classes, class weights": {**SAVING, **WEIGHTED, "selection.strategy": "classes"},
}
TUNINGS: dict[str, dict[str, Any]] = {
    "fine-tuning, plain": {},
    "fine-tuning, classes": {**SAVING, "selection.strategy": "classes"},
    "fine-tuning, plain, twice the steps": {},
}


def main() -> None:
    """Run what is missing, then write the table."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.row:
        write_row(_file(args.out, args.row, args.seed), measure(args))
        return
    wanted = args.rows or [*TRAININGS, *TUNINGS]
    for names in (TRAININGS, TUNINGS) if not args.table else ():  # a fine-tuning needs the full run of its seed
        tasks = [_task(name, seed, args) for seed in range(args.seeds) for name in names if name in wanted]
        if names is TUNINGS and tasks:
            for seed in range(args.seeds):
                _cut(args.out, seed)
        run_all(tasks, args.jobs, Limits(args.limit_s, 8))
    rows = {name: [_read(args.out, name, seed) for seed in range(args.seeds)] for name in wanted}
    args.to.write_text(table({name: [row for row in own if row] for name, own in rows.items()}, args), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder of CamVid")
    parser.add_argument("--data", default="camvid", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs/selection"))
    parser.add_argument("--to", type=Path, default=ROOT / "docs/results/selection.md", help="the table's file")
    parser.add_argument("--model", default="python:prunekit.models.street:street_net")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), metavar=("H", "W"))
    parser.add_argument("--epochs", type=int, default=60, help="of the full run; fine-tuning takes a third")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", nargs="*", choices=[*TRAININGS, *TUNINGS])
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each")
    parser.add_argument("--limit-s", type=float, default=3 * 3600, help="time limit of a row")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _file(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '-').replace('%', 'percent')}.{seed}.json"


def _read(out: Path, name: str, seed: int) -> Row | None:
    path = _file(out, name, seed)
    row = read_row(path) if path.exists() else None
    return row if row and row["status"] == "done" else None


def _task(name: str, seed: int, args: argparse.Namespace) -> Task:
    command = [sys.executable, __file__, "--row", name, "--seed", str(seed), "--out", str(args.out)]
    command += ["--root", args.root, "--data", args.data, "--model", args.model]
    command += ["--epochs", str(args.epochs), "--size", *map(str, args.size)]
    return Task(f"{name}, seed {seed}", command, _file(args.out, name, seed))


def measure(args: argparse.Namespace) -> Row:
    """Train one row and score it on the validation and the test images."""
    torch.set_num_threads(1)
    run = RunDirectory(_file(args.out, args.row, args.seed).with_suffix(""))
    recipe = _tuning(args) if args.row in TUNINGS else _training(args)
    begun_s = time.process_time()
    report = train(recipe, run)
    return {
        "status": "done",
        "seed": args.seed,
        "steps": report.steps,
        "full_steps": report.full_steps,
        "images": report.images_kept,
        "cpu_s": time.process_time() - begun_s,
        "train_wall_s": report.train_wall_s,
        "scores": {split: _score(run, recipe, split) for split in SPLITS[args.data]},
    }


def _training(args: argparse.Namespace) -> Recipe:
    height, width = args.size
    data = {"name": args.data, "root": args.root, "height": height, "width": width}
    training = {"epochs": args.epochs, "threads": 1, "eval_every": args.epochs, "seed": args.seed, "device": "cpu"}
    values = {"data": data, "model": {"name": args.model}, "train": training}
    return parse_recipe(merge(values, TRAININGS[args.row]))


def _tuning(args: argparse.Namespace) -> Recipe:
    cut = _cut(args.out, args.seed)
    twice = 2 if "twice" in args.row else 1
    epochs = max(1, args.epochs // 3) * twice
    return recipe_from(cut, {"train.epochs": epochs, "train.eval_every": epochs, **TUNINGS[args.row]})


def _cut(out: Path, seed: int) -> RunDirectory:
    """Return the full run of a seed with half of its multiply-accumulates removed, not fine-tuned."""
    source = RunDirectory(_file(out, "full", seed).with_suffix(""))
    cut = RunDirectory(source.path.with_name(f"{source.path.name}-half"))
    if not cut.model_path.exists():
        prune_run(source, PruneConfig.model_validate({"ratio": 0.5, "epochs": 0}), cut)
    return cut


def _score(run: RunDirectory, recipe: Recipe, split: Any) -> dict[str, Any]:
    loaded = load_model(run)
    dataset, cpu = open_dataset(recipe.data, split), torch.device("cpu")
    return evaluate(loaded.segmenter, dataset, loaded.contract, batch_size=8, device=cpu).to_json()


def table(rows: Mapping[str, Sequence[Row]], args: argparse.Namespace) -> str:
    """Return the page: each row's mean and range, and the difference from plain training of as many steps by seed."""
    lines = [
        "# Selection of samples on CamVid",
        "",
        f"`python benchmarks/selection.py --root .../camvid --epochs {args.epochs} --seeds {args.seeds}`: {args.model.rpartition(':')[2]} from random "
        f"weights at {args.size[0]}x{args.size[1]}, batch 8, {args.epochs} epochs in the full run, on a CPU. mIoU and pixel accuracy in "
        "points, mean and range over seeds. The last column is the difference from plain training with 60 % of the steps (of "
        "fine-tuning: plain fine-tuning), paired by seed, mean of validation and test mIoU.",
        "",
        "| row | seeds | steps | images | mIoU val | mIoU test | accuracy val | CPU time [s] | difference by seed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(_line(name, own, rows) for name, own in rows.items() if own)]) + "\n"


def _line(name: str, own: Sequence[Row], rows: Mapping[str, Sequence[Row]]) -> str:
    base = "fine-tuning, plain" if name in TUNINGS else "plain, 60 %"
    known = {row["seed"]: _both(row) for row in rows.get(base, ())}
    apart = [f"{100 * (_both(row) - known[row['seed']]):+.1f}" for row in own if row["seed"] in known]
    val, test = ([row["scores"][split]["miou"] for row in own if split in row["scores"]] for split in ("val", "test"))
    accuracy = [row["scores"]["val"]["pixel_accuracy"] for row in own]
    cells = [_spread(val), _spread(test), _spread(accuracy), f"{statistics.mean(row['cpu_s'] for row in own):.0f}"]
    cells.append("" if name == base else " ".join(apart))
    return f"| {name} | {len(own)} | {own[0]['steps']} | {own[0]['images']} | {' | '.join(cells)} |"


def _both(row: Row) -> float:
    return statistics.mean(score["miou"] for score in row["scores"].values())


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{100 * statistics.mean(values):.1f} ({100 * min(values):.1f}..{100 * max(values):.1f})"


if __name__ == "__main__":
    main()
