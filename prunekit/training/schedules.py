"""The learning rate as a function of the step alone, so that resuming needs no state."""

import math
from typing import Literal

from prunekit.recipe import TrainConfig


def schedule_of(config: TrainConfig) -> Literal["poly", "cosine"]:
    """Return the schedule that the recipe means: "auto" follows the optimiser."""
    if config.schedule != "auto":
        return config.schedule
    return "poly" if config.optimiser == "sgd" else "cosine"


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) in a run of `steps`.

    Linear warm-up over `warmup_steps`, at most a tenth of the run; then a fall that ends just above 0 at the last step.
    """
    warmup_steps = min(config.warmup_steps, steps // 10)
    if step < warmup_steps:
        return config.lr * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(steps - warmup_steps, 1)
    if schedule_of(config) == "poly":
        return config.lr * (1 - progress) ** config.poly_power
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
