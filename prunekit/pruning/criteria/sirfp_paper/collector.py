"""Statistics of batch norms' outputs, before activation and residual sum, collected while a network runs.

Shapes: B batch, C channels, N places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.criteria.sirfp_paper.measures import Edges, Redundancy
from prunekit.pruning.criteria.sirfp_paper.members import NormLayer

DECAY = 0.999
"""Of the moving averages; hard-coded in the official training script (sirfp.md 1.2 b)."""


@dataclass
class MovingAverage:
    """S <- r S + (1 - r) value, from S = 0 and without a correction for the start (sirfp.md 1.2 b).

    The missing correction scales every statistic of a pass by the same 1 - r^n, which changes no quantile.
    """

    decay: float = DECAY
    value: Tensor | None = None

    def update(self, value: Tensor) -> None:
        """Take one more step."""
        if self.value is None:
            self.value = torch.zeros_like(value)
        self.value.mul_(self.decay).add_(value, alpha=1 - self.decay)


@dataclass(frozen=True)
class NormStatistics:
    """What was seen at one batch norm."""

    redundancy_CC: Tensor
    """Signed; the absolute value is taken at selection only."""
    edge_C: Tensor | None
    """None where edges do not count."""


@dataclass
class _Tap:
    layer: NormLayer
    generator: torch.Generator
    redundancy: MovingAverage
    edge: MovingAverage
    passes: int = 0
    index_C: Tensor | None = field(default=None, repr=False)


class BnOutputs:
    """Watches batch norms while it is open: un-pooled, at the maps' own resolution, outside autocast in float32.

    Open it around a training to measure as published (4,000 steps, sirfp.md 1.3), or around a pass over some batches.
    Ranks of a distributed training are averaged; the official code reads rank 0's images only (1.4, item 7).

    Args:
        network: the network whose batch norms are watched.
        layers: which, and which of their channels.
        redundancy: how repetition is measured.
        edges: how edges are measured, in the encoder only, since they do not count elsewhere; None for nowhere.
        decay: of the moving averages.
        positions: measure repetition on so many random places, the same for all channels; None measures on all.
        every: measure every so many calls of a batch norm.
        seed: of the places.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[NormLayer],
        *,
        redundancy: Redundancy,
        edges: Edges | None,
        decay: float = DECAY,
        positions: int | None = None,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        self._network, self._redundancy, self._edges = network, redundancy, edges
        self._positions, self._every = positions, every
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._taps = [
            _Tap(layer, torch.Generator().manual_seed(seed), MovingAverage(decay), MovingAverage(decay))
            for layer in layers
        ]

    def __enter__(self) -> Self:
        self._handles = [self._attach(tap) for tap in self._taps]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def statistics(self) -> dict[str, NormStatistics]:
        """Return what was seen so far, by the name of the batch norm; one that was never called is left out.

        Raises:
            PruneError: a value is not finite.
        """
        seen = {tap.layer.name: tap for tap in self._taps if tap.passes}
        return {name: _statistics(name, tap) for name, tap in seen.items()}

    def _attach(self, tap: _Tap) -> torch.utils.hooks.RemovableHandle:
        def after(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            del args
            self._observe(tap, output)

        return self._network.get_submodule(tap.layer.name).register_forward_hook(after)

    def _observe(self, tap: _Tap, output: Tensor) -> None:
        tap.passes += 1
        if (tap.passes - 1) % self._every:
            return
        with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
            if tap.index_C is None:
                tap.index_C = torch.from_numpy(tap.layer.index_C).to(output.device)
            x = output.detach().float().index_select(1, tap.index_C)
            tap.redundancy.update(self._redundancy(self._sampled(x.reshape(*x.shape[:2], -1), tap)))
            if self._edges is not None and tap.layer.encoder:
                tap.edge.update(self._edges(x))

    def _sampled(self, x_BCN: Tensor, tap: _Tap) -> Tensor:
        if self._positions is None or x_BCN.shape[2] <= self._positions:
            return x_BCN
        chosen = torch.randint(x_BCN.shape[2], (self._positions,), generator=tap.generator)
        return x_BCN.index_select(2, chosen.to(x_BCN.device))


def _statistics(name: str, tap: _Tap) -> NormStatistics:
    assert tap.redundancy.value is not None
    statistics = NormStatistics(_over_ranks(tap.redundancy.value), tap.edge.value)
    if statistics.edge_C is not None:
        statistics = NormStatistics(statistics.redundancy_CC, _over_ranks(statistics.edge_C))
    for value in (statistics.redundancy_CC, statistics.edge_C):
        if value is not None and not bool(value.isfinite().all()):
            raise PruneError(
                f"The outputs of batch norm {name} are not finite on this data, so its channels cannot be scored. "
                "Look for a diverged training; prune an earlier checkpoint."
            )
    return statistics


def _over_ranks(value: Tensor) -> Tensor:
    """Return the mean over the ranks; averages that move linearly may be averaged in the end."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return value.clone()
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
