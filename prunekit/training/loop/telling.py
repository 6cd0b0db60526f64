"""What an observer is told, and how long the rest will take."""

import math
from typing import Any

import torch

from prunekit.data.labels.counts import LabelReport
from prunekit.models.segmenter import Segmenter
from prunekit.progress import TimeLeft
from prunekit.recipe import Recipe
from prunekit.training.device import device_name
from prunekit.training.events import EpochEvent, EvaluationEvent, Observer, StartEvent, StepEvent
from prunekit.training.selection import Place, StepPlan
from prunekit.training.tally import Tally


class Teller:
    """Tells an observer how far a training is; epochs and steps are handed in from 0."""

    def __init__(self, observer: Observer, recipe: Recipe, plan: StepPlan) -> None:
        self.observer, self.recipe, self.config, self.plan = observer, recipe, recipe.train, plan
        self.time_left = TimeLeft()

    def start(self, segmenter: Segmenter, device: torch.device, first_epoch: int, labels: LabelReport) -> None:
        """Tell that the training begins, or goes on."""
        event = StartEvent(
            device=device_name(device),
            precision=self.config.precision,
            parameters=sum(parameter.numel() for parameter in segmenter.parameters()),
            epochs=self.config.epochs,
            run_steps=self.plan.whole,
            full_steps=self.plan.full_steps,
            first_epoch=first_epoch,
            strategy=self.recipe.selection.strategy,
            labels=labels,
        )
        self.observer.on_start(event)

    def step(self, place: Place, tally: Tally, kept: int, loss: float, rate: float) -> None:
        """Tell that a step is over."""
        self.time_left.step()
        steps_left = place.run_steps - place.run_step - 1
        evaluations_left = self._evaluations_from(place.epoch)
        event = StepEvent(
            epoch=place.epoch + 1,
            epochs=place.epochs,
            step=place.step + 1,
            steps=place.steps,
            run_step=place.run_step + 1,
            run_steps=place.run_steps,
            loss=loss,
            lr=rate,
            kept=kept,
            images_per_s=tally.images_per_s,
            eta_s=self.time_left.left_s(steps_left, evaluations_left),
            eta_is_least=evaluations_left > 0 and not self.time_left.knows_interruptions,
        )
        self.observer.on_step(event)

    def evaluation(self, epoch: int, done: int, images: int, spent_s: float) -> None:
        """Tell that `done` of `images` images are evaluated, which took `spent_s`."""
        whole_s = spent_s / done * images
        steps_left = self.plan.whole - self.plan.starts[epoch + 1]
        later_s = self.time_left.left_s(steps_left, self._evaluations_from(epoch) - 1, current_s=whole_s)
        self.observer.on_evaluation(
            EvaluationEvent(epoch + 1, self.config.epochs, done, images, whole_s - spent_s + later_s)
        )

    def epoch(self, epoch: int, row: dict[str, Any]) -> None:
        """Tell that an epoch is over and its row written."""
        self.observer.on_epoch(EpochEvent(epoch + 1, self.config.epochs, row))

    def _evaluations_from(self, epoch: int) -> int:
        """Return how many evaluations are to come when `epoch` is trained."""
        return math.ceil(self.config.epochs / self.config.eval_every) - epoch // self.config.eval_every
