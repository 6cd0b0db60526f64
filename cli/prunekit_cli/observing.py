"""A training's events, shown."""

from typing import TYPE_CHECKING

from prunekit_cli import formats
from prunekit_cli.progress import Progress

if TYPE_CHECKING:
    from prunekit.training.events import EpochEvent, StartEvent, StepEvent


class TrainingProgress:
    """The observer that a training reports to: a bar for the steps, a line that stays for each evaluated epoch."""

    def __init__(self, progress: Progress, what: str = "training") -> None:
        self._progress = progress
        self._what = what

    def on_start(self, event: "StartEvent") -> None:
        """Say what trains, and where."""
        resumed = f", going on after epoch {event.first_epoch}" if event.first_epoch else ""
        self._progress.line(
            f"{self._what}: {formats.quantity(event.parameters)} parameters on {event.device} in {event.precision}, "
            f"{event.epochs} epochs of {event.steps} steps, selection {event.strategy}{resumed}"
        )

    def on_step(self, event: "StepEvent") -> None:
        """Move the bar."""
        done = (event.epoch - 1) * event.steps + event.step
        # Short, so that it fits a terminal of 80 columns with the bar.
        detail = f"epoch {event.epoch}/{event.epochs} loss {event.loss:.3f} {event.images_per_s:.0f} images/s"
        self._progress.advance(self._what, done, event.epochs * event.steps, detail=detail, left_s=event.eta_s)

    def on_epoch(self, event: "EpochEvent") -> None:
        """Keep a line for an epoch that was evaluated."""
        if event.miou is not None:
            self._progress.line(
                f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.3f}  mIoU {formats.score(event.miou)}"
            )
