"""What `prunekit.prune` did, beside the network that it returns."""

from dataclasses import dataclass

from prunekit.pruning.allocation import Target
from prunekit.pruning.surgery import Plan
from prunekit.workflows.pruning.report import LayerRow


@dataclass(frozen=True)
class ModuleReport:
    """What was removed from a network, by what, and what that was checked for. `print(report)` tells it in short."""

    criterion: str
    """Which channels go; "sirfp-unweighted" where it was not named and the batches hold no labels."""
    allocation: str
    """How the cut was shared out over the groups."""
    target: Target
    cost_after: float
    """In the target's unit, as it was predicted: MACs, parameters or milliseconds."""
    latency_ms: float | None
    """Of the network as cut, where the target is a latency that a meter measured."""
    batches: int
    """That were looked at."""
    labelled: bool
    """Whether they held labels."""
    plan: Plan
    """Cuts another copy of the same network: `prunekit.pruning.pruned(model, report.plan)`; of a Segmenter, the network
    inside: its names are those of `model.network`."""
    exactness: float
    """Largest difference from the network with the removed channels masked, relative to the largest output."""
    macs_before: int
    """Of the example inputs, one image where none were given."""
    macs_after: int
    params_before: int
    params_after: int
    layers: tuple[LayerRow, ...]
    """Every layer that makes channels, in the order of execution."""
    whole: tuple[tuple[str, str], ...]
    """Groups of channels that stay whole, and why."""
    compensated: tuple[str, ...]
    """Layers whose weights took up what the removed channels carried."""

    @property
    def ratio(self) -> float:
        """Share of the MACs that is gone."""
        return 1 - self.macs_after / self.macs_before

    def __str__(self) -> str:
        seen = f"{self.batches} batches {'with' if self.labelled else 'without'} labels"
        lines = [
            f"{self.criterion} on {seen}, shared out by {self.allocation}",
            f"MACs        {self.macs_before:>15,} -> {self.macs_after:>15,}  ({self.ratio:.1%} removed)",
            f"parameters  {self.params_before:>15,} -> {self.params_after:>15,}",
            f"equal to the masked network within {self.exactness:.1e}; {len(self.whole)} groups are not prunable",
        ]
        return "\n".join(lines if self.latency_ms is None else [*lines, f"measured latency {self.latency_ms:.4g} ms"])
