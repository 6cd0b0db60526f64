"""What one stage of a pruning removed, and what it cost."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from prunekit.pruning.latency import TOLERANCE
from prunekit.pruning.picture import GroupChange


@dataclass(frozen=True)
class LayerRow:
    """One layer before and after."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    channels_before: int
    channels_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class PaddingRow:
    """MACs that kernels which work on whole blocks of channels spend on padding."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    block: int
    """Channels of a block."""
    macs: int
    """Spent on padding by the network as cut."""
    macs_unaligned: int | None
    """The same if the same target had been met with channel counts of any size; None where that is not known."""


@dataclass(frozen=True)
class StageReport:
    """One removal and the training after it. Costs are in the target's unit: MACs, parameters or milliseconds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    number: int
    """From 1."""
    share: float
    """Of the source's cost that is to be gone after it."""
    allocation: str
    cost_wanted: float
    cost_predicted: float
    """By the cost model, for the channel counts that were chosen."""
    latency_measured_ms: float | None
    """Of the network as cut, where the target is a latency and the machine was at hand."""
    macs_after: int
    params_after: int
    groups: tuple[GroupChange, ...]
    layers: tuple[LayerRow, ...]
    parts: dict[str, int]
    """MACs of each part of the network as cut."""
    padding: tuple[PaddingRow, ...]
    compensated: tuple[str, ...]
    """Layers whose weights took up what the removed channels carried."""
    exactness: float
    """Largest relative difference between the cut and the masked network, float32."""
    miou_pruned: float | None
    """Right after the cut, before any fine-tuning."""
    epochs: int
    """Of fine-tuning after the cut."""
    miou_after: float | None = None
    """After fine-tuning; None until it is done, and where there is none."""
    tuned: bool = False
    """Whether the stage is over."""

    @property
    def miou(self) -> float | None:
        """Of the network that the stage ends with."""
        return self.miou_after if self.epochs else self.miou_pruned

    @property
    def misses_latency(self) -> bool:
        """Whether the network as cut was measured to be off its latency by more than the loop allows."""
        measured_ms = self.latency_measured_ms
        return measured_ms is not None and abs(measured_ms - self.cost_wanted) > TOLERANCE * self.cost_wanted
