"""Epochs, checkpoints and rows of metrics, from a built network to a trained model file.

Everything random is a function of the seed and the place in the run, and the checkpoint at the end of an epoch holds
the rest, so that on a CPU a resumed run ends in the same bits as one that was never interrupted.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import Batch, train_batches
from prunekit.data.transforms import contract_of
from prunekit.errors import ConfigError, ModelError, RunError
from prunekit.modelfile import ModelCard, save_model
from prunekit.models.segmenter import Segmenter
from prunekit.models.soundness import check_weights
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.training.device import check_precision, cpu_threads, device_name, resolve_device
from prunekit.training.evaluate import evaluate
from prunekit.training.events import Observer, Silent
from prunekit.training.extras import Extras, checked_extras
from prunekit.training.label_record import record_labels
from prunekit.training.loop.step import Stepper, diverged, memory_layout, rounding
from prunekit.training.loop.telling import Teller
from prunekit.training.losses import make_class_weights
from prunekit.training.seeding import seeded
from prunekit.training.selection import make_chooser, make_plan, remembering
from prunekit.training.snapshots import rewind_path, save_rewind
from prunekit.training.state import Counts, fingerprint, load_state, save_state
from prunekit.training.tally import Tally

_STEP_DRAWS = 0x57E9  # keeps dropout's draws apart from those of the data and the selection


@dataclass(frozen=True)
class FitReport:
    """What came out of a training."""

    epochs: int
    resumed_after: int
    """Epochs that an earlier process had done; 0 if the run was never interrupted."""
    loss: float
    """Mean loss of the last epoch."""
    miou: float | None
    """Of the last epoch, on the validation split; None if no validation pixel counts."""
    pixel_accuracy: float | None
    iou: list[float | None]
    """IoU of each class; None where a class does not occur."""
    pruned_fraction: float
    """Realised share of the images drawn over the whole run that got no backward pass."""
    steps: int
    """Steps taken over the whole run."""
    full_steps: int
    """Steps that as many epochs take without a budget and without a selection before drawing."""
    images_kept: int
    """Images trained on over the whole run, each time counted."""
    train_wall_s: float
    """Wall time of all training steps, selection and data included, evaluation not."""
    images_per_s: float
    """Images drawn a second of that time."""
    device: str
    card: ModelCard


def fit(
    segmenter: Segmenter,
    recipe: Recipe,
    run: RunDirectory,
    *,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    card: ModelCard,
    observer: Observer | None = None,
    resume: bool = True,
    extras: Extras | None = None,
    held: bool = False,
) -> FitReport:
    """Train a network, or go on where `run` was interrupted, and write its model file.

    Args:
        segmenter: the network, dense or pruned; to resume, build it the same way first. It is trained in place and
            ends on the CPU.
        recipe: the settings; a resumed run must keep those that decide the weights.
        run: where recipe, checkpoints, metrics and the model go; nothing is written before all is known to fit.
        train_set: training samples.
        val_set: evaluated every `eval_every` epochs and after the last.
        card: what the network is; its plan must be the segmenter's.
        observer: told about each step and epoch.
        resume: take up `run`'s checkpoint if there is one; otherwise start anew.
        extras: a teacher for `train.distill` and a regulariser for `train.sparsity`; a resumed run must bring the
            same ones.
        held: the caller holds the run's lock.

    Raises:
        ConfigError: the recipe cannot be followed here, or asks for an extra that is missing.
        RunError: the checkpoint does not fit, or loss, weights or logits are no longer finite: the checkpoint of
            before is kept, and no model is written.
    """
    _check_classes(card, train_set, val_set)
    _check_contract(card, recipe)
    extras = checked_extras(extras, segmenter, recipe.train)
    with run.locked(held=held), cpu_threads(recipe.train):
        training = _Training(segmenter, recipe, run, train_set, val_set, card, observer or Silent(), extras)
        try:
            return training.run_all(resume)
        finally:
            segmenter.cpu()
            extras.to(torch.device("cpu"))


class _Training:
    """One call of `fit`: the parts that the steps need."""

    def __init__(
        self,
        segmenter: Segmenter,
        recipe: Recipe,
        run: RunDirectory,
        train_set: SegmentationDataset,
        val_set: SegmentationDataset,
        card: ModelCard,
        observer: Observer,
        extras: Extras,
    ) -> None:
        self.device = resolve_device(recipe.train.device)
        check_precision(self.device, recipe.train.precision)
        self.segmenter = _placed(segmenter, self.device, memory_layout(recipe.train))
        self.recipe, self.config, self.run, self.card = recipe, recipe.train, run, card
        self.train_set, self.val_set = train_set, val_set
        extras.to(self.device, memory_layout(recipe.train))
        self.plan = make_plan(recipe, train_set)
        self.chooser = make_chooser(recipe, train_set, self.plan)
        weights_K = make_class_weights(recipe.train, train_set)
        self.stepper = Stepper(self.segmenter, recipe, run, self.device, extras, card.ignore_index, weights_K)
        self.selection = remembering(recipe, self.stepper.selector, self.chooser)
        self.counts = Counts(recipe=fingerprint(recipe), extras=extras.identity)
        self.tell = Teller(observer, recipe, self.plan)

    def run_all(self, resume: bool) -> FitReport:
        """Take up the checkpoint, train the epochs that are left, write the model."""
        rows = self._take_up(resume)
        first = self.counts.epochs_done
        self.run.write_recipe(self.recipe)  # of a checkpoint too: it was found to fit, and its data may have moved
        labels = record_labels(self.run, self.train_set, self.val_set, resumed=first > 0)
        self.tell.start(self.segmenter, self.device, first, labels)
        for epoch in range(first, self.config.epochs):
            row = self._epoch(epoch)
            rows.append(row)
            # Rows before the checkpoint: a kill between the two leaves a row too many, which resuming cuts.
            self.run.write_metrics(rows)
            self.counts.epochs_done = epoch + 1
            if epoch + 1 == self.config.rewind_epoch:
                save_rewind(self.run, self.segmenter.network, epoch + 1)
            if (epoch + 1) % self.config.checkpoint_every == 0 or epoch + 1 == self.config.epochs:
                self._save()
            self.tell.epoch(epoch, row)
        step = {"step": "train", "epochs": self.config.epochs, "pruned_fraction": self.counts.pruned_fraction}
        step |= {"qat": True} if self.config.qat else {}
        card = save_model(self.run, self.segmenter, self.card.followed_by(step))
        return self._report(first, rows, card)

    def _take_up(self, resume: bool) -> list[dict[str, Any]]:
        """Load the checkpoint if there is one to go on from; return the rows of the epochs it covers."""
        if not resume:
            self.run.state_path.unlink(missing_ok=True)
        if not self.run.state_path.exists():
            rewind_path(self.run).unlink(missing_ok=True)  # an earlier training's would pass for this one's
            return []
        parts = self.segmenter.network, self.stepper.optimiser, self.selection
        self.counts = load_state(self.run, *parts, self.counts)
        if self.counts.scaler:
            self.stepper.scaler.load_state_dict(self.counts.scaler)
        rows = [row for row in self.run.metrics() if row["epoch"] <= self.counts.epochs_done]
        if len(rows) != self.counts.epochs_done:
            raise RunError(
                f"{self.run.metrics_path} lacks rows of the {self.counts.epochs_done} epochs that are done. "
                f"Put it back, or delete {self.run.state_path.name} to train this run from the start."
            )
        if len(rows) >= self.config.epochs and not {"miou", "pixel_accuracy", "iou"} <= rows[-1].keys():
            raise RunError(f"{self.run.metrics_path} is damaged: its last row lacks the scores. Put it back.")
        return rows

    def _save(self) -> None:
        counts = self.counts.model_copy(update={"scaler": self.stepper.scaler.state_dict()})
        save_state(self.run, self.segmenter.network, self.stepper.optimiser, self.selection, counts)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch and evaluate if it is due; return its row."""
        tally = Tally()
        self.segmenter.train()
        self.tell.time_left.go_on()
        with seeded(self.config.seed, _STEP_DRAWS, epoch):
            for step, batch in enumerate(self._batches(epoch)):
                place = self.plan.place(epoch, step)
                kept, loss, rate = self.stepper.step(batch, place)
                tally.add(len(batch.images_B3HW), kept, loss, rate)
                self.tell.step(place, tally, kept, loss, rate)
        self.counts.images_seen += tally.seen
        self.counts.images_kept += tally.kept
        self.counts.train_wall_s += tally.wall_s
        row = {"epoch": epoch + 1, **tally.row(), "pruned_fraction": self.counts.pruned_fraction}
        try:
            check_weights(self.segmenter.network)  # the loss was read before the last step
            if (epoch + 1) % self.config.eval_every == 0 or epoch + 1 == self.config.epochs:
                row |= self._evaluated(epoch)
        except ModelError as error:
            raise diverged(f"After epoch {epoch + 1}: {error}", self.config, self.run) from None
        return row

    def _batches(self, epoch: int) -> Iterator[Batch]:
        config = self.config
        return train_batches(
            self.train_set,
            self.recipe.data,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
            workers=config.workers,
            cache=config.cache,
            steps=self.plan.steps(epoch),
            chosen=None if self.chooser is None else self.chooser.choose(epoch),
        )

    def _evaluated(self, epoch: int) -> dict[str, Any]:
        started_s = time.perf_counter()

        def on_batch(done: int, images: int) -> None:
            self.tell.evaluation(epoch, done, images, time.perf_counter() - started_s)

        size, contract = self.config.batch_size, self.card.contract
        with rounding(self.config, self.segmenter):
            confusion = evaluate(
                self.segmenter, self.val_set, contract, batch_size=size, device=self.device, on_batch=on_batch
            )
        wall_s = time.perf_counter() - started_s
        self.tell.time_left.interrupted(wall_s)
        return {**confusion.to_json(), "eval_wall_s": wall_s}

    def _report(self, first: int, rows: list[dict[str, Any]], card: ModelCard) -> FitReport:
        last, wall_s = rows[-1], self.counts.train_wall_s
        return FitReport(
            epochs=self.config.epochs,
            resumed_after=first,
            loss=last["loss"],
            miou=last["miou"],
            pixel_accuracy=last["pixel_accuracy"],
            iou=last["iou"],
            pruned_fraction=self.counts.pruned_fraction,
            steps=self.plan.whole,
            full_steps=self.plan.full_steps,
            images_kept=self.counts.images_kept,
            train_wall_s=wall_s,
            images_per_s=self.counts.images_seen / max(wall_s, 1e-9),  # a checkpoint of others may say 0 seconds
            device=device_name(self.device),
            card=card,
        )


def _placed(segmenter: Segmenter, device: torch.device, layout: torch.memory_format) -> Segmenter:
    return cast(Any, segmenter).to(device=device, memory_format=layout)


def _check_classes(card: ModelCard, train_set: SegmentationDataset, val_set: SegmentationDataset) -> None:
    for split, dataset in (("training", train_set), ("validation", val_set)):
        if dataset.classes != card.classes:
            raise ConfigError(
                f"The {split} split has {len(dataset.classes)} classes ({', '.join(dataset.classes.names[:4])}, ...), "
                f"the model {card.num_classes} ({', '.join(card.class_names[:4])}, ...). Use the data set of the model."
            )


def _check_contract(card: ModelCard, recipe: Recipe) -> None:
    wanted = contract_of(recipe.data, card.contract.pad_multiple)
    if wanted != card.contract:
        raise ConfigError(
            f"The recipe prepares images as {wanted.to_json()}, the model expects {card.contract.to_json()}. "
            "Set data.height and data.width to the model's."
        )
