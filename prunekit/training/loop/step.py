"""One training step: select, forward, backward, update.

Shapes: B batch, k kept samples, K classes, H height, W width.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from prunekit.data.loading import Batch
from prunekit.errors import ConfigError, RunError
from prunekit.models.narrow import NarrowConvolutionsContiguous
from prunekit.models.segmenter import Segmenter
from prunekit.models.soundness import LARGEST
from prunekit.recipe import Recipe, TrainConfig
from prunekit.run import RunDirectory
from prunekit.training.device import autocast
from prunekit.training.extras import Extras
from prunekit.training.fake_int8 import FakeInt8
from prunekit.training.losses import distillation_loss, training_loss
from prunekit.training.optimisers import make_optimiser
from prunekit.training.schedules import learning_rate
from prunekit.training.selection import Place, make_selector


class Stepper:
    """What the steps of a training need, and change."""

    def __init__(
        self,
        segmenter: Segmenter,
        recipe: Recipe,
        run: RunDirectory,
        device: torch.device,
        extras: Extras,
        ignore_index: int,
        weights_K: Tensor | None = None,
    ) -> None:
        self.segmenter, self.config, self.run = segmenter, recipe.train, run
        self.device, self.extras, self.ignore_index = device, extras, ignore_index
        self.weights_K = None if weights_K is None else weights_K.to(device)
        self.optimiser = make_optimiser(segmenter.network, recipe.train)
        self.selector = make_selector(segmenter, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.train.precision == "fp16")

    def step(self, batch: Batch, place: Place) -> tuple[int, float, float]:
        """Select, forward, backward, step; return (samples kept, loss, learning rate).

        Raises:
            ConfigError: the network's batch norms cannot take a batch so small.
            RunError: the loss is no longer finite; the weights are those of before the step.
        """
        images_B3HW, labels_BHW, drawn_B = self._to_device(batch)
        kept_k = self.selector.select(images_B3HW, place)
        if len(kept_k) < len(images_B3HW):
            where_k = kept_k.to(self.device)
            images_B3HW, labels_BHW = images_B3HW[where_k], labels_BHW[where_k]
            drawn_B = None if drawn_B is None else drawn_B[where_k]
        rate = learning_rate(self.config, place.run_step, place.run_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        with NarrowConvolutionsContiguous():
            loss = self._loss(images_B3HW, labels_BHW, drawn_B)
            self.scaler.scale(loss).backward()
        value = self._finite(loss, place)  # read after the backward pass is queued, so that a GPU does not wait
        self._update()
        return len(kept_k), value, rate

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        images_B3HW = batch.images_B3HW.to(self.device, memory_format=memory_layout(self.config))
        drawn_B = None if batch.drawn_B is None else batch.drawn_B.to(self.device)
        return images_B3HW, batch.labels_BHW.to(self.device), drawn_B

    def _loss(self, images_B3HW: Tensor, labels_BHW: Tensor, drawn_B: Tensor | None) -> Tensor:
        try:
            # A teacher stays as it is.
            with autocast(self.device, self.config.precision), rounding(self.config, self.segmenter):
                outputs = self.segmenter.outputs(images_B3HW)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch's batch norm behind global pooling
                raise
            raise ConfigError(
                f"This network's batch norms cannot be trained on a batch of {len(images_B3HW)}. "
                "Set train.batch_size to 2 or more."
            ) from error
        loss = training_loss(outputs, labels_BHW, self.config, self.ignore_index, drawn_B, self.weights_K)
        if self.extras.teacher is None:
            return loss
        with autocast(self.device, self.config.precision):
            teacher_BKHW = self.extras.teacher.logits(images_B3HW)
        followed = distillation_loss(outputs.logits_BKHW, teacher_BKHW, labels_BHW, self.config, self.ignore_index)
        return loss + self.config.distill_weight * followed

    def _finite(self, loss: Tensor, place: Place) -> float:
        value = float(loss.detach())
        if not abs(value) < LARGEST:  # nan compares false
            raise diverged(
                f"The loss is {value:g} at epoch {place.epoch + 1}, step {place.step + 1}.", self.config, self.run
            )
        return value

    def _update(self) -> None:
        self.scaler.unscale_(self.optimiser)
        if self.config.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.segmenter.parameters(), self.config.clip_norm)
        self.extras.regularise(self.segmenter.network)  # after clipping: its strength is the recipe's
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.extras.project(self.segmenter.network)


def diverged(what: str, config: TrainConfig, run: RunDirectory) -> RunError:
    """Return the error of a training that cannot go on: what is no longer finite, and what to do."""
    kept = f" {run.state_path} keeps the network of before." if run.state_path.exists() else ""
    return RunError(f"{what} Lower train.lr (now {config.lr:g}), or train with --precision fp32, in a new run.{kept}")


def rounding(config: TrainConfig, segmenter: Segmenter) -> AbstractContextManager[object]:
    """Return the context in which the network computes: with int8 roundings where the recipe wants them."""
    return FakeInt8(segmenter.num_classes) if config.qat else nullcontext()


def memory_layout(config: TrainConfig) -> torch.memory_format:
    """Return how images and weights lie in memory."""
    return torch.channels_last if config.channels_last else torch.contiguous_format
