"""What a training tells the one who watches it."""

from dataclasses import dataclass
from typing import Any, Protocol

from prunekit.data.labels.counts import LabelReport


@dataclass(frozen=True)
class StartEvent:
    """A training is about to begin or to go on."""

    device: str
    precision: str
    parameters: int
    epochs: int
    run_steps: int
    """Steps of all epochs."""
    full_steps: int
    """Steps that the epochs take without a budget and without a selection before drawing."""
    first_epoch: int
    """Epochs that are already done: 0 unless the run is resumed."""
    strategy: str
    labels: LabelReport
    """How often each class occurs in both splits."""


@dataclass(frozen=True)
class StepEvent:
    """One step is over; epochs and steps count from 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    """Steps of this epoch."""
    run_step: int
    run_steps: int
    """Steps of all epochs."""
    loss: float
    lr: float
    kept: int
    """Samples of this batch that were trained on."""
    images_per_s: float
    """Images drawn a second, over this epoch so far."""
    eta_s: float
    """Time left of the whole training, by the pace of the last steps, evaluations included once one was timed."""
    eta_is_least: bool = False
    """Evaluations are to come and none was timed yet: it will take longer than `eta_s`."""


@dataclass(frozen=True)
class EvaluationEvent:
    """A part of the evaluation after an epoch is over; epochs count from 1."""

    epoch: int
    epochs: int
    done: int
    """Images."""
    images: int
    """In all."""
    eta_s: float
    """Time left of the whole training."""


@dataclass(frozen=True)
class EpochEvent:
    """One epoch is over and its row is in `metrics.jsonl`."""

    epoch: int
    epochs: int
    row: dict[str, Any]

    @property
    def loss(self) -> float:
        """Mean loss of the epoch."""
        return self.row["loss"]

    @property
    def miou(self) -> float | None:
        """Mean IoU if this epoch was evaluated."""
        return self.row.get("miou")


class Observer(Protocol):
    """Watches a training."""

    def on_start(self, event: StartEvent) -> None:
        """Called once, before the first step."""
        ...

    def on_step(self, event: StepEvent) -> None:
        """Called after each step."""
        ...

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Called after each batch of an evaluation."""
        ...

    def on_epoch(self, event: EpochEvent) -> None:
        """Called after each epoch."""
        ...


class Silent:
    """An observer that says nothing."""

    def on_start(self, event: StartEvent) -> None:
        """Say nothing."""

    def on_step(self, event: StepEvent) -> None:
        """Say nothing."""

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Say nothing."""

    def on_epoch(self, event: EpochEvent) -> None:
        """Say nothing."""
