"""What one epoch adds up to."""

import time
from typing import Any


class Tally:
    """Sums over one epoch."""

    def __init__(self) -> None:
        self.started_s = time.perf_counter()
        self.seen = self.kept = self.steps = 0
        self.loss_sum = self.wall_s = self.lr = 0.0

    def add(self, seen: int, kept: int, loss: float, lr: float) -> None:
        """Count one step; the clock is read here, so that data, selection and training are all inside."""
        self.seen += seen
        self.kept += kept
        self.steps += 1
        self.loss_sum += loss * kept
        self.lr = lr
        self.wall_s = time.perf_counter() - self.started_s

    @property
    def images_per_s(self) -> float:
        """Images drawn a second."""
        return self.seen / self.wall_s

    def row(self) -> dict[str, Any]:
        """Return the epoch's part of a metrics row."""
        return {
            "loss": self.loss_sum / self.kept,
            "lr": self.lr,
            "steps": self.steps,
            "images": self.kept,
            "kept_fraction": self.kept / self.seen,
            "images_per_s": self.images_per_s,
            "wall_s": self.wall_s,
        }
