"""What all steps of one pruning share: settings, data, device, and where each stage lies.

Shapes: B batch, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import eval_batches
from prunekit.data.registry import open_dataset
from prunekit.modelfile import LoadedModel
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria import Criterion, criterion_named
from prunekit.pruning.latency import LatencyTable
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.training.device import resolve_device
from prunekit.training.evaluate import evaluate
from prunekit.training.events import Observer
from prunekit.workflows.pruning.config import PruneConfig, changed

Tell = Callable[[str], None]


class LatencyMeter(Protocol):
    """Measures on the machine that the pruned network shall run on. Networks come on the CPU and are its to keep."""

    def table(self, segmenter: Segmenter, input_shape: tuple[int, ...], coupling: Coupling) -> LatencyTable:
        """Return the latency of each layer at every width."""
        ...

    def network_ms(self, segmenter: Segmenter, input_shape: tuple[int, ...]) -> float:
        """Return the latency of a whole network."""
        ...


@dataclass(frozen=True)
class Job:
    """One pruning: what is asked for, and where."""

    target: RunDirectory
    config: PruneConfig
    recipe: Recipe
    """Of the fine-tuning after the last stage."""
    tell: Tell
    observer: Observer | None = None
    trust_code: bool = False
    table: LatencyTable | None = None
    """Of the source network, for a target in milliseconds."""
    meter: LatencyMeter | None = None
    """Measures a table for every stage in the place of `table`, and closes the loop."""

    @cached_property
    def device(self) -> torch.device:
        """Where to compute."""
        return resolve_device(self.recipe.train.device)

    @cached_property
    def train_set(self) -> SegmentationDataset:
        """Training images."""
        return open_dataset(self.recipe.data, "train", trust_code=self.trust_code)

    @cached_property
    def val_set(self) -> SegmentationDataset:
        """Validation images."""
        return open_dataset(self.recipe.data, "val", trust_code=self.trust_code)

    @cached_property
    def criterion(self) -> Criterion:
        """What ranks the channels."""
        return criterion_named(self.config.criterion)

    def is_last(self, number: int) -> bool:
        """Tell whether stage `number`, from 1, is the last one."""
        return number == self.config.stage_count

    def stage_run(self, number: int) -> RunDirectory:
        """Return where a stage is fine-tuned: stage-01/, stage-02/, ..., and the run itself for the last."""
        return self.target if self.is_last(number) else self.target.part(f"stage-{number:02d}")

    def cut_run(self, number: int) -> RunDirectory:
        """Return where a stage's network lies as cut."""
        return self.stage_run(number).part("pruned")

    @property
    def sparse_run(self) -> RunDirectory:
        """Where the training towards sparsity before the first cut lies."""
        return self.target.part("sparse")

    def stage_recipe(self, number: int) -> Recipe:
        """Return the recipe of a stage's fine-tuning; each earlier stage draws its own order and views."""
        if self.is_last(number):
            return self.recipe
        return changed(
            self.recipe, epochs=max(1, self.config.stage_epochs), seed=self.config.seed + _SEED_STEP * number
        )

    def stage_epochs(self, number: int) -> int:
        """Return how many epochs a stage is fine-tuned for; 0 leaves it as cut."""
        return self.config.epochs if self.is_last(number) else self.config.stage_epochs

    def example(self, loaded: LoadedModel) -> Tensor:
        """Return one validation image as the network gets it, its size a multiple of the network's stride."""
        batch = next(iter(eval_batches(self.val_set, loaded.contract, batch_size=1)))
        return batch.images_B3HW.to(self.device)

    def miou(self, segmenter: Segmenter, loaded: LoadedModel) -> float | None:
        """Evaluate a network, which lies on the device, on the validation images."""
        size = self.recipe.train.batch_size
        confusion = evaluate(segmenter, self.val_set, loaded.contract, batch_size=size, device=self.device)
        return confusion.to_json()["miou"]


_SEED_STEP = 1_000_003  # far from the small numbers that people write as seeds
