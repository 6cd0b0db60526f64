r"""Criteria against each other: equal dense weights, MACs, statistics, compensation and fine-tuning; several seeds.

    python benchmarks/criteria.py --root .../camvid --out runs/criteria

trains the dense networks, then for each criterion and seed prunes them and trains on, and writes
docs/results/criteria.md with its figure. Each job is a process of its own on one CPU thread, `--jobs` at a time;
finished ones are kept, so it can be interrupted, and further `--ratios` cost no more than themselves. `--data shapes --epochs 2 --tune-epochs 1` is the size for a test. Any
network of the zoo goes in place of street_net, on a GPU where there is one:

    python benchmarks/criteria.py --root .../camvid --out runs/deeplab --model torchvision:deeplabv3_resnet50 \
        --size 360x480 --crop 320x320 --ratios 0.5 0.6 0.7 0.8 --device cuda --jobs 1 --table docs/results/criteria_deeplab.md
"""

import argparse
import functools
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from criteria_table import Bench, figure, result_path, table

RATIOS = (0.5, 0.75)
MODEL = "python:prunekit.models.street:street_net"
SIZE, CROP = "180x240", "160x208"
TUNE_LR = 2e-3
BATCHES = 12  # of 8 images, augmented training views


@dataclass(frozen=True)
class Variant:
    """One row: a criterion, and what is done differently from its default."""

    criterion: str
    allocation: str = "auto"
    fold: bool = True
    """The removed channels are folded into their consumers."""
    norms: bool = True
    """The batch norms are measured anew."""
    at: Literal["input", "output"] = "input"
    """Channels are measured where they are read, or where they are made."""


ABLATIONS: Mapping[str, Variant] = {
    "sirfp, uniform": Variant("sirfp", allocation="uniform"),
    "sirfp, global threshold": Variant("sirfp", allocation="global"),
    "sirfp, nothing compensated": Variant("sirfp", fold=False, norms=False),
    "sirfp, folded only": Variant("sirfp", norms=False),
    "sirfp, norms only": Variant("sirfp", fold=False),
    "sirfp-clique, measured at the producers": Variant("sirfp-clique", at="output"),
    "sirfp-clique, nothing compensated": Variant("sirfp-clique", fold=False, norms=False),
    "obspa, cost": Variant("obspa", allocation="cost"),
    "l2, nothing compensated": Variant("l2", fold=False, norms=False),
    "random, nothing compensated": Variant("random", fold=False, norms=False),
}


def variant(name: str) -> Variant:
    """Return what a row's name stands for."""
    return ABLATIONS.get(name, Variant(name))


def main() -> None:
    """Run one job, or all and the table."""
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
    args = parser.parse_args()
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
    policies = {name: _policy(variant(name)) for name in names}
    args.table.parent.mkdir(parents=True, exist_ok=True)
    args.table.write_text(table(bench, policies))
    args.table.with_suffix(".svg").write_text(figure(bench, names))
    print(args.table.read_text())


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


def _policy(row: Variant) -> str:
    from prunekit.pruning.criteria.registry import criterion

    return criterion(row.criterion).allocation if row.allocation == "auto" else row.allocation


def _names(only: list[str] | None) -> list[str]:
    from prunekit.pruning.criteria.registry import CRITERIA

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


class Lab:
    """One dense network, its data, and what every criterion may look at."""

    def __init__(self, seed: int, args: argparse.Namespace) -> None:
        from prunekit.data.loading import eval_batches, train_batches
        from prunekit.data.registry import open_dataset
        from prunekit.modelfile import load_model
        from prunekit.pruning.analysis import analyse
        from prunekit.run import RunDirectory
        from prunekit.training.device import resolve_device

        self.seed, self.tune_epochs, self.out = seed, args.tune_epochs, args.out
        run = RunDirectory(args.out / f"train-{seed}")
        self.loaded, self.recipe = load_model(run), run.recipe()
        self.device = resolve_device(self.recipe.train.device)
        self.segmenter = self.loaded.segmenter.to(self.device).eval()
        self.train_set, self.val_set = (open_dataset(self.recipe.data, split) for split in ("train", "val"))
        batches = train_batches(self.train_set, self.recipe.data, batch_size=8, seed=10_000 + seed, epoch=0, cache=True)
        self.batches = [
            (batch.images_B3HW.to(self.device), batch.labels_BHW.to(self.device)) for batch in islice(batches, BATCHES)
        ]
        example = next(iter(eval_batches(self.val_set, self.loaded.contract, batch_size=1))).images_B3HW
        self.coupling = analyse(self.segmenter.network, (example.to(self.device),))

    def longer(self) -> dict[str, Any]:
        """Train the dense network on, exactly as a pruned one is fine-tuned."""
        return {"miou_after": self.tuned(self.segmenter, self.loaded.card)}

    def prune(self, name: str, ratios: Sequence[float]) -> dict[str, Any]:
        """Rank once; at every ratio cut, compensate and train on."""
        row = variant(name)
        started_s = time.process_time()
        keeps = self._keeps(row, ratios)
        result: dict[str, Any] = {"rank_cpu_s": time.process_time() - started_s, "ratios": {}}
        for ratio, keep in keeps.items():
            compensated = self.cut(keep, fold=row.fold, norms=row.norms)
            result["ratios"][str(ratio)] = {
                "keep": keep,
                "macs": self.coupling.macs(keep) / self.coupling.macs(),
                "params": self.coupling.params(keep) / self.coupling.params(),
                "miou_cut": self.miou(self.cut(keep, fold=False, norms=False)),
                "miou_compensated": self.miou(compensated),
                "miou_after": self.tuned(compensated, self.card(keep)),
            }
        return result

    def scratch(self, ratio: str) -> dict[str, Any]:
        """Train sirfp's narrow shape from random weights, as long as dense training and fine-tuning together."""
        pruned = json.loads(result_path(self.out, f"prune|sirfp|{self.seed}").read_text())["ratios"]
        return {"ratios": {ratio: {"miou_after": self._fresh(pruned[ratio]["keep"])}}}

    def _fresh(self, keep: dict[str, list[int]]) -> float | None:
        import torch

        from prunekit.modelfile import rebuild

        torch.manual_seed(self.seed)
        segmenter = rebuild(self.card(keep))
        epochs = self.recipe.train.epochs + self.tune_epochs
        return self._fitted(segmenter, self.card(keep), epochs=epochs, lr=self.recipe.train.lr)

    @functools.cached_property
    def evidence(self) -> Any:
        """What criteria may look at."""
        from prunekit.pruning.criteria.evidence import Evidence, Labelled
        from prunekit.training.losses import training_loss

        config, ignore = self.recipe.train, self.loaded.card.ignore_index
        return Evidence(
            network=self.segmenter.network,
            coupling=self.coupling,
            batches=lambda: [Labelled(*batch) for batch in self.batches],
            forward=self.segmenter,
            loss=lambda images, labels: training_loss(self.segmenter.outputs(images), labels, config, ignore),
            num_classes=self.loaded.card.num_classes,
            ignore_index=ignore,
            seed=self.seed,
        )

    def rank(self, row: Variant) -> Any:
        """Return the ranking of each group."""
        from prunekit.pruning.criteria.registry import criterion

        evidence = replace(self.evidence)
        if row.at == "output":  # the compensation measures where channels are read all the same
            evidence.__dict__["statistics"] = _at_producers(evidence)
        return criterion(row.criterion).rank(evidence)

    def _keeps(self, row: Variant, ratios: Sequence[float]) -> dict[float, dict[str, list[int]]]:
        from prunekit.pruning.allocation import Target, allocate
        from prunekit.pruning.criteria.registry import criterion

        policy: Any = _policy(row)
        targets = {ratio: Target("ratio", ratio) for ratio in ratios}
        if policy == "paper":
            chosen: Any = criterion(row.criterion)
            return {ratio: self._whole(chosen.keep(self.evidence, target, 8)) for ratio, target in targets.items()}
        rankings = self.rank(row)
        return {
            ratio: allocate(self.coupling, rankings, target, policy=policy, align=8).keep
            for ratio, target in targets.items()
        }

    def _whole(self, keep: dict[str, list[int]]) -> dict[str, list[int]]:
        return {group.name: keep.get(group.name, list(range(group.width))) for group in self.coupling.free}

    def cut(self, keep: dict[str, list[int]], *, fold: bool, norms: bool) -> Any:
        """Return the network without what is not kept."""
        import copy

        from prunekit.pruning.compensation import compensate_, reestimate_norms_
        from prunekit.pruning.plan import make_plan
        from prunekit.pruning.surgery import prune_

        segmenter = copy.deepcopy(self.segmenter)
        if fold:
            compensate_(segmenter.network, self.coupling, keep, self.evidence.statistics)
        prune_(segmenter.network, make_plan(self.coupling, keep))
        if norms:
            reestimate_norms_(segmenter.network, [images for images, _ in self.batches], segmenter)
        return segmenter.eval()

    def card(self, keep: dict[str, list[int]]) -> Any:
        """Return what the cut network's model file says of it."""
        from prunekit.pruning.plan import make_plan

        return self.loaded.card.model_copy(update={"plan": make_plan(self.coupling, keep).to_json()})

    def miou(self, segmenter: Any) -> float | None:
        """Evaluate on the validation images."""
        from prunekit.training.evaluate import evaluate

        confusion = evaluate(segmenter, self.val_set, self.loaded.contract, batch_size=8, device=self.device)
        return confusion.to_json()["miou"]

    def tuned(self, segmenter: Any, card: Any) -> float | None:
        """Train on, and evaluate."""
        return self._fitted(segmenter, card, epochs=self.tune_epochs, lr=TUNE_LR)

    def _fitted(self, segmenter: Any, card: Any, *, epochs: int, lr: float) -> float | None:
        import tempfile

        from prunekit.run import RunDirectory
        from prunekit.training.loop import fit

        changed = {"epochs": epochs, "lr": lr, "eval_every": epochs, "seed": self.seed}
        recipe = self.recipe.model_copy(update={"train": self.recipe.train.model_copy(update=changed)})
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(folder))
            run.write_recipe(recipe)
            report = fit(segmenter, recipe, run, train_set=self.train_set, val_set=self.val_set, card=card)
        return report.miou


def _at_producers(evidence: Any) -> Any:
    """Measure where channels are made, behind the convolution, instead of where they are read."""
    import torch

    from prunekit.pruning.statistics import Collector, Statistics

    collector = Collector(evidence.network, evidence.coupling, seed=evidence.seed, producers=True)
    with collector, torch.no_grad():
        for batch in evidence.batches():
            evidence.forward(batch.images_B3HW)
    seen = collector.statistics().groups
    made = {group: tuple(one for one in found if one.at == "output") for group, found in seen.items()}
    return Statistics({group: made[group] or found for group, found in seen.items()})


if __name__ == "__main__":
    main()
