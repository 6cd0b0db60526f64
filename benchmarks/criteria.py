r"""Criteria against each other: equal dense weights, MACs, statistics, compensation and fine-tuning; several seeds.

    python benchmarks/criteria.py --root .../camvid --out runs/criteria

trains the dense networks, then for each criterion and seed prunes them and trains on, and writes
docs/results/criteria.md with its figure. Each job is a process of its own on one CPU thread, `--jobs` at a time;
finished ones are kept, so it can be interrupted, and further `--ratios` cost no more than themselves. `--data shapes
--epochs 2 --tune-epochs 1` is the size for a test. Any network of the zoo goes in place of street_net, on a GPU where
there is one:

    python benchmarks/criteria.py --root .../camvid --out runs/deeplab --model torchvision:deeplabv3_resnet50 \
        --size 360x480 --crop 320x320 --ratios 0.5 0.6 0.7 0.8 --device cuda --jobs 1 --table docs/results/criteria_deeplab.md
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from criteria_figure import figure
from criteria_lab import ABLATIONS, BATCHES, Lab, policy_of, variant
from criteria_table import Bench, result_path, table

RATIOS = (0.5, 0.75)
MODEL = "python:prunekit.models.street:street_net"
SIZE, CROP = "180x240", "160x208"


def main() -> None:
    """Run one job, or all and the table."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.job:
        _run_job(args)
        return
    names, seeds = _names(args.only), range(args.first_seed, args.first_seed + args.seeds)
    stages = [
        [f"train|{seed}" for seed in seeds],
        [f"longer|{seed}" for seed in seeds],
        [f"prune|{name}|{seed}" for name in names for seed in seeds],
        [f"scratch|{seed}" for seed in seeds] if "sirfp" in names and not args.no_scratch else [],
    ]
    for stage in stages:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: _spawn(job, args), stage))
    figure_name = args.table.with_suffix(".svg").name
    bench = Bench(
        args.out,
        seeds,
        args.data,
        subject(args.out, seeds[0]),
        args.epochs,
        args.tune_epochs,
        BATCHES,
        args.ratios,
        _options(args),
        figure_name,
    )
    policies = {name: policy_of(variant(name)) for name in names}
    args.table.parent.mkdir(parents=True, exist_ok=True)
    page = table(bench, policies)
    args.table.write_text(page)
    args.table.with_suffix(".svg").write_text(figure(page))
    print(page)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("camvid", "shapes"), default="camvid")
    parser.add_argument("--root", default="", help="folder of CamVid")
    parser.add_argument("--out", type=Path, default=Path("runs/criteria"), help="where runs and results go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=50, help="of the dense networks")
    parser.add_argument("--tune-epochs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--model", default=MODEL, help="network, as prunekit train takes it")
    parser.add_argument("--size", default=SIZE, help="of the images, HxW (camvid)")
    parser.add_argument("--crop", default=CROP, help="of what is trained on, HxW (camvid)")
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="of the MACs that go")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--no-scratch", action="store_true", help="do not train sirfp's shape from random weights")
    parser.add_argument("--only", nargs="*", help="these criteria only")
    parser.add_argument("--table", type=Path, default=Path("docs/results/criteria.md"))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser


def subject(out: Path, seed: int) -> str:
    """Return the network and what it sees, as the dense run tells them."""
    from prunekit.modelfile import load_model
    from prunekit.run import RunDirectory

    run = RunDirectory(out / f"train-{seed}")
    data, parameters = run.recipe().data, load_model(run).segmenter.parameters()
    millions = sum(parameter.numel() for parameter in parameters) / 1e6
    shown = {"camvid": "CamVid"}.get(data.name, data.name)
    name = run.recipe().model.name.rpartition(":")[2]
    return f"{name} ({millions:.2f} M parameters) on {shown} at {data.height}x{data.width}"


def _options(args: argparse.Namespace) -> str:
    """Return the options that are not the defaults, as they are typed, without folders."""
    defaults = {"model": MODEL, "size": SIZE, "crop": CROP, "epochs": 50, "tune_epochs": 3}
    typed = {name: getattr(args, name) for name, default in defaults.items() if getattr(args, name) != default}
    shown = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in typed.items()]
    shown += [f"--ratios {' '.join(map(str, args.ratios))}"] if tuple(args.ratios) != RATIOS else []
    shown += [f"--first-seed {args.first_seed}"] if args.first_seed else []
    shown += [f"--seeds {args.seeds}"] if args.seeds != 3 else []
    shown += ["--no-scratch"] if args.no_scratch else []
    shown += [f"--only {shlex.join(args.only)}"] if args.only else []
    shown += [f"--table {args.table}"] if args.table.name != "criteria.md" else []
    return "".join(f" {option}" for option in shown)


def _names(only: list[str] | None) -> list[str]:
    from prunekit.pruning.criteria import CRITERIA

    return only or [*CRITERIA, *ABLATIONS]


def _spawn(job: str, args: argparse.Namespace) -> None:
    if _is_done(job, args):
        return
    command = [sys.executable, __file__, "--data", args.data, "--root", args.root, "--out", str(args.out)]
    command += ["--epochs", str(args.epochs), "--tune-epochs", str(args.tune_epochs), "--job", job]
    command += ["--model", args.model, "--size", args.size, "--crop", args.crop, "--device", args.device]
    command += ["--ratios", *map(str, args.ratios)]
    started_s = time.monotonic()
    done = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    note = "" if done.returncode == 0 else f" FAILED ({done.returncode})"
    print(f"{job}: {time.monotonic() - started_s:.0f} s{note}", file=sys.stderr, flush=True)


def _found(job: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what an earlier run found, if any."""
    path = result_path(args.out, job)
    return json.loads(path.read_text()) if path.exists() else {}


def _is_done(job: str, args: argparse.Namespace) -> bool:
    found = _found(job, args)
    return bool(found) and ("refused" in found or not job.startswith("prune|") or not _missing(found, args.ratios))


def _missing(found: Mapping[str, Any], ratios: Sequence[float]) -> list[float]:
    return [ratio for ratio in ratios if str(ratio) not in found.get("ratios", {})]


def _run_job(args: argparse.Namespace) -> None:
    from prunekit.errors import PrunekitError
    from prunekit.run import write_json

    kind, *rest = args.job.split("|")
    started_s = time.process_time()
    try:
        if kind == "train":
            result = _train(int(rest[0]), args)
        elif kind == "longer":
            result = Lab(int(rest[0]), args).longer()
        elif kind == "scratch":
            result = Lab(int(rest[0]), args).scratch(str(args.ratios[0]))
        else:
            found = _found(args.job, args)
            result = Lab(int(rest[1]), args).prune(rest[0], _missing(found, args.ratios))
            result["ratios"] = {**found.get("ratios", {}), **result["ratios"]}
    except PrunekitError as error:
        result = {"refused": str(error)}  # a criterion may refuse a network; the table says so
    path = result_path(args.out, args.job)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {**result, "cpu_s": time.process_time() - started_s})


def _recipe(seed: int, args: argparse.Namespace) -> Any:
    from prunekit.recipe import parse_recipe

    train = {"epochs": args.epochs, "lr": 4e-3, "precision": "bf16", "threads": 1, "eval_every": 10, "seed": seed}
    train |= {"checkpoint_every": 5, "device": args.device}
    data: dict[str, Any] = {"name": "shapes", "height": 64, "width": 96, "train_images": 64, "val_images": 32}
    if args.data == "camvid":
        (height, width), (crop_height, crop_width) = pixels(args.size), pixels(args.crop)
        data = {"name": "camvid", "root": args.root, "height": height, "width": width}
        data |= {"crop_height": crop_height, "crop_width": crop_width}
    return parse_recipe({"data": data, "model": {"name": args.model}, "train": train})


def pixels(size: str) -> tuple[int, int]:
    """Return height and width of "HxW"."""
    height, width = map(int, size.split("x"))
    return height, width


def _train(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    from prunekit.run import RunDirectory
    from prunekit.workflows.train import train

    path = args.out / f"train-{seed}"
    path.mkdir(parents=True, exist_ok=True)
    return {"miou": train(_recipe(seed, args), RunDirectory(path)).miou}


if __name__ == "__main__":
    main()
