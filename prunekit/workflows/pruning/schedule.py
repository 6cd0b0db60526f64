"""How much is gone after each stage.

Shares are of the source network's cost (MACs, parameters or latency), rising to that of the target.
"""

from prunekit.errors import ConfigError
from prunekit.workflows.pruning.config import PruneConfig


def shares(config: PruneConfig, final: float) -> tuple[float, ...]:
    """Return the share of the source's cost that is gone after each stage; the last is `final`.

    iterative: equal parts, s_t = final * t / T, which with two stages are those of SIRFP's scripts (30 -> 60, 35 -> 70,
    40 -> 80) and with three 30 -> 60 -> 90 (sirfp.md 1.3), or the shares that `config.stages` names.
    gradual: s_t = final * (1 - (1 - t / T)^3), Zhu and Gupta 2017 (arXiv 1710.01878, eq. 1, from 0 on).

    Raises:
        ConfigError: a named stage already removes as much as the target or more.
    """
    count = config.stage_count
    if config.stages:
        if config.stages[-1] >= final:
            raise ConfigError(
                f"The stages must lie below the target, which removes {final:.3f} of the source's cost; "
                f"got {config.stages[-1]:g}. Leave it out: the last stage goes to the target by itself."
            )
        return (*config.stages, final)
    power = 3 if config.schedule == "gradual" else 1
    earlier = (final * (1 - (1 - step / count) ** power) for step in range(1, count))
    return (*earlier, final)  # exactly, whatever is rounded
