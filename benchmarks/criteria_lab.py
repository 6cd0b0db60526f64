"""The rows of `criteria.py`, and the bench they are tried on: a dense network, its data, cutting and fine-tuning."""

import functools
import json
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from criteria_table import result_path

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


def policy_of(row: Variant) -> str:
    """Return how a row shares out: as it says, or as its criterion's source does."""
    from prunekit.pruning.criteria import criterion_named

    return criterion_named(row.criterion).allocation if row.allocation == "auto" else row.allocation


class Lab:
    """One dense network, its data, and what every criterion may look at."""

    def __init__(self, seed: int, args: Namespace) -> None:
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
        from prunekit.pruning.evidence import Evidence, Labelled
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
        from prunekit.pruning.criteria import criterion_named

        evidence = replace(self.evidence)
        if row.at == "output":  # the compensation measures where channels are read all the same
            evidence.__dict__["statistics"] = _at_producers(evidence)
        return criterion_named(row.criterion).rank(evidence)

    def _keeps(self, row: Variant, ratios: Sequence[float]) -> dict[float, dict[str, list[int]]]:
        from prunekit.pruning.allocation import Target, allocate
        from prunekit.pruning.criteria import criterion_named

        policy: Any = policy_of(row)
        targets = {ratio: Target("ratio", ratio) for ratio in ratios}
        if policy == "paper":
            chosen: Any = criterion_named(row.criterion)
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

        from prunekit.pruning.surgery import compensate_, make_plan, prune_, reestimate_norms_

        segmenter = copy.deepcopy(self.segmenter)
        if fold:
            compensate_(segmenter.network, self.coupling, keep, self.evidence.statistics)
        prune_(segmenter.network, make_plan(self.coupling, keep))
        if norms:
            reestimate_norms_(segmenter.network, [images for images, _ in self.batches], segmenter)
        return segmenter.eval()

    def card(self, keep: dict[str, list[int]]) -> Any:
        """Return what the cut network's model file says of it."""
        from prunekit.pruning.surgery import make_plan

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

    from prunekit.pruning.evidence import Collector, Statistics

    collector = Collector(evidence.network, evidence.coupling, seed=evidence.seed, producers=True)
    with collector, torch.no_grad():
        for batch in evidence.batches():
            evidence.forward(batch.images_B3HW)
    seen = collector.statistics().groups
    made = {group: tuple(one for one in found if one.at == "output") for group, found in seen.items()}
    return Statistics({group: made[group] or found for group, found in seen.items()})
