"""What a pruning aims at: a share of the MACs, or a number of MACs, parameters or milliseconds."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from prunekit.errors import PruneUsageError
from prunekit_runtime.spelling import spelled

Kind = Literal["ratio", "macs", "params", "latency"]

TOLERANCE = 0.005
"""A target is met when the cost is off by at most this share of the dense network's cost."""
CLOSE = 0.2
"""Share of the tolerance that is aimed at: what is compared at equal cost should cost the same."""


@dataclass(frozen=True)
class Target:
    """How much of a network's cost stays."""

    kind: Kind
    """"ratio": share of the MACs to remove; "macs", "params", "latency": what is left of them."""
    value: float
    """In [0, 1) for a ratio; else MACs of the example input, parameters, or milliseconds, more than 0."""

    def __post_init__(self) -> None:
        """Refuse what no network can fulfil."""
        if self.kind not in get_args(Kind):
            raise PruneUsageError(f"A target is one of {', '.join(get_args(Kind))}, got {self.kind}.")
        if self.kind == "ratio":
            if not 0 <= self.value < 1:
                raise PruneUsageError(
                    f"The ratio must be in [0, 1), got {self.value}. Write 0.5 to remove half of the MACs."
                )
        elif not (math.isfinite(self.value) and self.value > 0):
            raise PruneUsageError(f"A target of {self.unit} must be a number above 0, got {self.value}.")

    @property
    def unit(self) -> str:
        """What the cost is counted in."""
        return {"params": "parameters", "latency": "ms"}.get(self.kind, "MACs")

    def wanted(self, dense: float) -> float:
        """Return the cost that shall be left of `dense`, in the target's unit.

        Raises:
            PruneError: the dense network costs no more than the target.
        """
        if self.kind == "ratio":
            return (1 - self.value) * dense
        if self.value >= dense:
            raise PruneUsageError(
                f"A target of {self.text(self.value)} removes nothing: the network already costs {self.text(dense)}. "
                f"Ask for less with {self.flag_name}."
            )
        return self.value

    def leaving(self, cost: float, dense: float) -> "Target":
        """Return the target of the same kind that asks for `cost`, as precise as its flag is written."""
        if self.kind == "ratio":
            return Target("ratio", min(0.9999, round(1 - cost / dense, 4)))
        return Target(self.kind, _significant(cost) if self.kind == "latency" else round(cost))

    @property
    def flag_name(self) -> str:
        """The option for this kind of target, as the caller writes it."""
        argument = {"ratio": "ratio", "latency": "target_latency_ms"}.get(self.kind, f"target_{self.kind}")
        return spelled("--ratio" if self.kind == "ratio" else f"--target-{self.kind}", argument)

    @property
    def flag(self) -> str:
        """The option as the caller writes it, value included."""
        digits = {"ratio": f"{self.value:.4g}", "latency": f"{self.value:g}"}.get(self.kind, f"{self.value:.0f}")
        unit = "ms" if self.kind == "latency" else ""
        return self.flag_name + spelled(f" {digits}{unit}", f"={digits}")

    def text(self, value: float) -> str:
        """Return a value of the target's unit for people."""
        if self.kind == "latency":
            return f"{value:.4g} ms"
        return f"{value:,.0f} {self.unit}"


def _significant(value: float) -> float:
    """Return `value` to four significant digits: finer than any latency is measured."""
    return float(f"{value:.4g}")
