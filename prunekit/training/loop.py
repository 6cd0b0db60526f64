"""The training loop: from a built network to a trained model file, resumable after a kill at any instant.

Everything random is a function of the seed and the place in the run, and the checkpoint at the end of an epoch holds
the rest, so that on a CPU a resumed run ends in the same bits as one that was never interrupted.

Shapes: B batch, k kept samples, H height, W width.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn, optim

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.labels.counts import LabelReport
from prunekit.data.loading import Batch, steps_per_epoch, train_batches
from prunekit.data.transforms import contract_of
from prunekit.errors import ConfigError, ModelError, RunError
from prunekit.modelfile import ModelCard, save_model
from prunekit.models.narrow import NarrowConvolutionsContiguous
from prunekit.models.segmenter import Segmenter
from prunekit.models.soundness import LARGEST, check_weights
from prunekit.progress import TimeLeft
from prunekit.recipe import Recipe, TrainConfig
from prunekit.run import RunDirectory
from prunekit.training.device import autocast, check_precision, cpu_threads, device_name, resolve_device
from prunekit.training.evaluate import evaluate
from prunekit.training.events import EpochEvent as EpochEvent
from prunekit.training.events import EvaluationEvent as EvaluationEvent
from prunekit.training.events import Observer as Observer
from prunekit.training.events import Silent
from prunekit.training.events import StartEvent as StartEvent
from prunekit.training.events import StepEvent as StepEvent
from prunekit.training.extras import Extras as Extras
from prunekit.training.extras import checked_extras
from prunekit.training.label_record import record_labels
from prunekit.training.losses import distillation_loss, training_loss
from prunekit.training.optimisers import make_optimiser
from prunekit.training.schedules import learning_rate
from prunekit.training.seeding import seeded
from prunekit.training.selection import Place, Selector, make_selector
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
        self.segmenter = _placed(segmenter, self.device, _layout(recipe.train))
        self.recipe, self.config, self.run, self.card = recipe, recipe.train, run, card
        self.train_set, self.val_set, self.observer = train_set, val_set, observer
        self.contract, self.extras = card.contract, extras
        self.extras.to(self.device, _layout(self.config))
        self.steps = steps_per_epoch(train_set, self.config.batch_size)
        self.optimiser: optim.Optimizer = make_optimiser(segmenter.network, self.config)
        self.selector: Selector = make_selector(segmenter, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.config.precision == "fp16")
        self.counts = Counts(recipe=fingerprint(recipe), extras=extras.identity)
        self.time_left = TimeLeft()

    def run_all(self, resume: bool) -> FitReport:
        """Take up the checkpoint, train the epochs that are left, write the model."""
        rows = self._take_up(resume)
        first = self.counts.epochs_done
        self.run.write_recipe(self.recipe)  # of a checkpoint too: it was found to fit, and its data may have moved
        labels = record_labels(self.run, self.train_set, self.val_set, resumed=first > 0)
        self.observer.on_start(self._start_event(first, labels))
        for epoch in range(first, self.config.epochs):
            row = self._epoch(epoch)
            rows.append(row)
            # Rows before the checkpoint: a kill between the two leaves a row too many, which resuming cuts.
            self.run.write_metrics(rows)
            self.counts.epochs_done = epoch + 1
            if epoch + 1 == self.config.rewind_epoch:
                save_rewind(self.run, self.segmenter.network, epoch + 1)
            if (epoch + 1) % self.config.checkpoint_every == 0 or epoch + 1 == self.config.epochs:
                save_state(self.run, self.segmenter.network, self.optimiser, self.selector, self._counted())
            self.observer.on_epoch(EpochEvent(epoch + 1, self.config.epochs, row))
        step = {"step": "train", "epochs": self.config.epochs, "pruned_fraction": self.counts.pruned_fraction}
        card = save_model(self.run, self.segmenter, self.card.followed_by(step))
        return self._report(first, rows, card)

    def _take_up(self, resume: bool) -> list[dict[str, Any]]:
        """Load the checkpoint if there is one to go on from; return the rows of the epochs it covers."""
        if not resume:
            self.run.state_path.unlink(missing_ok=True)
        if not self.run.state_path.exists():
            rewind_path(self.run).unlink(missing_ok=True)  # an earlier training's would pass for this one's
            return []
        self.counts = load_state(self.run, self.segmenter.network, self.optimiser, self.selector, self.counts)
        if self.counts.scaler:
            self.scaler.load_state_dict(self.counts.scaler)
        rows = [row for row in self.run.metrics() if row["epoch"] <= self.counts.epochs_done]
        if len(rows) != self.counts.epochs_done:
            raise RunError(
                f"{self.run.metrics_path} lacks rows of the {self.counts.epochs_done} epochs that are done. "
                f"Put it back, or delete {self.run.state_path.name} to train this run from the start."
            )
        if len(rows) >= self.config.epochs and not {"miou", "pixel_accuracy", "iou"} <= rows[-1].keys():
            raise RunError(f"{self.run.metrics_path} is damaged: its last row lacks the scores. Put it back.")
        return rows

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch and evaluate if it is due; return its row."""
        tally = Tally()
        self.segmenter.train()
        self.time_left.go_on()
        with seeded(self.config.seed, _STEP_DRAWS, epoch):
            for step, batch in enumerate(self._batches(epoch)):
                place = Place(epoch, self.config.epochs, step, self.steps)
                kept, loss, rate = self._step(batch, place)
                tally.add(len(batch.images_B3HW), kept, loss, rate)
                self.time_left.step()
                self.observer.on_step(self._step_event(place, tally, kept, loss, rate))
        self.counts.images_seen += tally.seen
        self.counts.images_kept += tally.kept
        self.counts.train_wall_s += tally.wall_s
        row = {"epoch": epoch + 1, **tally.row(), "pruned_fraction": self.counts.pruned_fraction}
        try:
            check_weights(self.segmenter.network)  # the loss was read before the last step
            if (epoch + 1) % self.config.eval_every == 0 or epoch + 1 == self.config.epochs:
                row |= self._evaluated(epoch)
        except ModelError as error:
            raise self._diverged(f"After epoch {epoch + 1}: {error}") from None
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
        )

    def _step(self, batch: Batch, place: Place) -> tuple[int, float, float]:
        """Select, forward, backward, step; return (samples kept, loss, learning rate)."""
        images_B3HW, labels_BHW, drawn_B = self._to_device(batch)
        kept_k = self.selector.select(images_B3HW, place)
        if len(kept_k) < len(images_B3HW):
            where_k = kept_k.to(self.device)
            images_B3HW, labels_BHW = images_B3HW[where_k], labels_BHW[where_k]
            drawn_B = None if drawn_B is None else drawn_B[where_k]
        rate = learning_rate(self.config, place.epoch * self.steps + place.step, self.config.epochs * self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        with NarrowConvolutionsContiguous():
            loss = self._loss(images_B3HW, labels_BHW, drawn_B)
            self.scaler.scale(loss).backward()
        value = self._finite(loss, place)  # read after the backward pass is queued, so that a GPU does not wait
        self._update()
        return len(kept_k), value, rate

    def _loss(self, images_B3HW: Tensor, labels_BHW: Tensor, drawn_B: Tensor | None) -> Tensor:
        try:
            with autocast(self.device, self.config.precision):
                outputs = self.segmenter.outputs(images_B3HW)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch's batch norm behind global pooling
                raise
            raise ConfigError(
                f"This network's batch norms cannot be trained on a batch of {len(images_B3HW)}. "
                "Set train.batch_size to 2 or more."
            ) from error
        loss = training_loss(outputs, labels_BHW, self.config, self.card.ignore_index, drawn_B)
        if self.extras.teacher is None:
            return loss
        with autocast(self.device, self.config.precision):
            teacher_BKHW = self.extras.teacher.logits(images_B3HW)
        followed = distillation_loss(outputs.logits_BKHW, teacher_BKHW, labels_BHW, self.config, self.card.ignore_index)
        return loss + self.config.distill_weight * followed

    def _finite(self, loss: Tensor, place: Place) -> float:
        value = float(loss.detach())
        if not abs(value) < LARGEST:  # nan compares false
            raise self._diverged(f"The loss is {value:g} at epoch {place.epoch + 1}, step {place.step + 1}.")
        return value

    def _diverged(self, what: str) -> RunError:
        kept = f" {self.run.state_path} keeps the network of before." if self.run.state_path.exists() else ""
        return RunError(
            f"{what} Lower train.lr (now {self.config.lr:g}), or train with --precision fp32, in a new run.{kept}"
        )

    def _update(self) -> None:
        self.scaler.unscale_(self.optimiser)
        if self.config.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.segmenter.parameters(), self.config.clip_norm)
        self.extras.regularise(self.segmenter.network)  # after clipping: its strength is the recipe's
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.extras.project(self.segmenter.network)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        images_B3HW = batch.images_B3HW.to(self.device, memory_format=_layout(self.config))
        drawn_B = None if batch.drawn_B is None else batch.drawn_B.to(self.device)
        return images_B3HW, batch.labels_BHW.to(self.device), drawn_B

    def _evaluated(self, epoch: int) -> dict[str, Any]:
        started_s = time.perf_counter()

        def on_batch(done: int, images: int) -> None:
            spent_s = time.perf_counter() - started_s
            self.observer.on_evaluation(self._evaluation_event(epoch, done, images, spent_s))

        size = self.config.batch_size
        confusion = evaluate(
            self.segmenter, self.val_set, self.contract, batch_size=size, device=self.device, on_batch=on_batch
        )
        wall_s = time.perf_counter() - started_s
        self.time_left.interrupted(wall_s)
        return {**confusion.to_json(), "eval_wall_s": wall_s}

    def _counted(self) -> Counts:
        return self.counts.model_copy(update={"scaler": self.scaler.state_dict()})

    def _start_event(self, first_epoch: int, labels: LabelReport) -> StartEvent:
        return StartEvent(
            device=device_name(self.device),
            precision=self.config.precision,
            parameters=sum(parameter.numel() for parameter in self.segmenter.parameters()),
            epochs=self.config.epochs,
            steps=self.steps,
            first_epoch=first_epoch,
            strategy=self.recipe.selection.strategy,
            labels=labels,
        )

    def _step_event(self, place: Place, tally: Tally, kept: int, loss: float, rate: float) -> StepEvent:
        steps_left = (place.epochs - place.epoch) * place.steps - place.step - 1
        evaluations_left = self._evaluations_from(place.epoch)
        return StepEvent(
            epoch=place.epoch + 1,
            epochs=place.epochs,
            step=place.step + 1,
            steps=place.steps,
            loss=loss,
            lr=rate,
            kept=kept,
            images_per_s=tally.images_per_s,
            eta_s=self.time_left.left_s(steps_left, evaluations_left),
            eta_is_least=evaluations_left > 0 and not self.time_left.knows_interruptions,
        )

    def _evaluations_from(self, epoch: int) -> int:
        """Return how many evaluations are to come when `epoch`, from 0, is trained."""
        return math.ceil(self.config.epochs / self.config.eval_every) - epoch // self.config.eval_every

    def _evaluation_event(self, epoch: int, done: int, images: int, spent_s: float) -> EvaluationEvent:
        whole_s = spent_s / done * images
        steps_left = (self.config.epochs - epoch - 1) * self.steps
        later_s = self.time_left.left_s(steps_left, self._evaluations_from(epoch) - 1, current_s=whole_s)
        return EvaluationEvent(epoch + 1, self.config.epochs, done, images, whole_s - spent_s + later_s)

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
            train_wall_s=wall_s,
            images_per_s=self.counts.images_seen / max(wall_s, 1e-9),  # a checkpoint of others may say 0 seconds
            device=device_name(self.device),
            card=card,
        )


def _layout(config: TrainConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.contiguous_format


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
