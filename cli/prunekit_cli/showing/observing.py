"""A training's events, shown."""

from typing import TYPE_CHECKING

from prunekit_cli.showing import formats
from prunekit_cli.showing.output import Table
from prunekit_cli.showing.progress import Progress

if TYPE_CHECKING:
    from prunekit.data.labels.counts import LabelCounts, LabelReport
    from prunekit.training.events import EpochEvent, EvaluationEvent, StartEvent, StepEvent

MOST_ROWS = 30  # of a table that begins a training


def label_table(labels: "LabelReport") -> Table:
    """Return the share of all pixels by class in both splits; of many classes only the rarest."""
    both = list(zip(labels.classes, labels.train.shares, labels.val.shares, strict=True))
    title = f"Pixels by class, {_counted(labels.train)} training and {_counted(labels.val)} validation images"
    if len(both) > MOST_ROWS:
        both = sorted(both, key=lambda row: row[1])[:MOST_ROWS]
        title += f"; the {MOST_ROWS} rarest of {len(labels.classes)}, all in labels.json"
    rows = [*both, ("(ignored)", labels.train.ignored_share, labels.val.ignored_share)]
    shown = [(name, formats.pixel_share(train), formats.pixel_share(val)) for name, train, val in rows]
    return Table(title, ("class", "training", "validation"), shown)


def _counted(counts: "LabelCounts") -> str:
    return f"all {counts.images}" if counts.counted == counts.images else f"{counts.counted} of {counts.images}"


class TrainingProgress:
    """The observer that a training reports to: a bar for the steps, a line that stays for each evaluated epoch."""

    def __init__(self, progress: Progress, what: str = "training") -> None:
        self._progress = progress
        self._what = what
        self._labels_shown = False  # a pruning trains several times on the same labels

    def on_start(self, event: "StartEvent") -> None:
        """Say what trains, on which labels, and where."""
        if not self._labels_shown:
            self._show_labels(event.labels)
            self._labels_shown = True
        resumed = f", going on after epoch {event.first_epoch}" if event.first_epoch else ""
        length = f"{formats.counted(event.epochs, 'epoch')}, {formats.counted(event.run_steps, 'step')}"
        if event.run_steps < event.full_steps:
            length += f" of {event.full_steps}"
        self._progress.line(
            f"{self._what}: {formats.quantity(event.parameters)} parameters on {event.device} in {event.precision}, "
            f"{length}, selection {event.strategy}{resumed}"
        )

    def _show_labels(self, labels: "LabelReport") -> None:
        self._progress.table(label_table(labels))
        for what, counts in (("training", labels.train), ("validation", labels.val)):
            names = [labels.classes[label] for label in counts.absent]
            if names:
                self._progress.line(f"No counted {what} pixel is {', '.join(names)}.")

    def on_step(self, event: "StepEvent") -> None:
        """Move the bar."""
        # Short, so that it fits a terminal of 80 columns with the bar.
        detail = f"epoch {event.epoch}/{event.epochs} loss {event.loss:.3f} {event.images_per_s:.0f} images/s"
        self._progress.advance(
            self._what,
            event.run_step,
            event.run_steps,
            detail=detail,
            left_s=event.eta_s,
            least=event.eta_is_least,
        )

    def on_evaluation(self, event: "EvaluationEvent") -> None:
        """Move a bar of its own; the time left stays that of the whole training."""
        detail = f"epoch {event.epoch}/{event.epochs} images"
        self._progress.advance("evaluating", event.done, event.images, detail=detail, left_s=event.eta_s)

    def on_epoch(self, event: "EpochEvent") -> None:
        """Keep a line for an epoch that was evaluated."""
        if event.miou is not None:
            self._progress.line(
                f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.3f}  mIoU {formats.score(event.miou)}"
            )
