"""The stages of the published schedule: prune a little, train on while measuring anew, prune the rest."""

from dataclasses import dataclass

from prunekit.errors import ConfigError

PUBLISHED_STAGES = {0.6: (0.3, 0.6), 0.7: (0.35, 0.7), 0.8: (0.4, 0.8), 0.9: (0.3, 0.6, 0.9)}
"""Shares of the dense network's MACs that are gone after each stage (sirfp.md 1.3)."""

CITYSCAPES_ITERATIONS = (4_000, 8_000, 36_000)
"""Training before the first cut, between the two, and after the second (sirfp.md 1.3)."""

_DEEPEST_TWO_STAGES = 0.8


@dataclass(frozen=True)
class StageSchedule:
    """When a network is cut, and how far. On ADE20K the official scripts cut once instead (sirfp.md 1.3).

    Args:
        iterations: lengths of the training before, between and after the cuts; only their proportions count.
    """

    iterations: tuple[int, ...] = CITYSCAPES_ITERATIONS

    def ratios(self, ratio: float) -> tuple[float, ...]:
        """Return the share of the dense MACs that is gone after each stage.

        A share that was not published is reached in two equal steps up to 0.8 and in three beyond, as the published
        ones are (our reading).

        Raises:
            ConfigError: `ratio` is not in (0, 1).
        """
        if not 0 < ratio < 1:
            raise ConfigError(f"The ratio must be in (0, 1), got {ratio}. Write 0.6 to remove 60 % of the MACs.")
        steps = 2 if ratio <= _DEEPEST_TWO_STAGES else 3
        published = PUBLISHED_STAGES.get(round(ratio, 6))
        return published or tuple(ratio * step / steps for step in range(1, steps + 1))

    def epochs(self, ratio: float, total: int) -> tuple[int, ...]:
        """Return epochs of training after each stage's cut, `total` together, in the published proportions.

        What the official scripts train before the first cut is the dense training's matter here. With three stages the
        middle one is as long as the first (our reading; no length was published).
        """
        stages = len(self.ratios(ratio))
        between, after = self.iterations[-2], self.iterations[-1]
        share = between / (between * (stages - 1) + after)
        each = round(total * share)
        return (*(each for _ in range(stages - 1)), total - each * (stages - 1))
