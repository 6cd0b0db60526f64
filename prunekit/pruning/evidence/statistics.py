"""Second moments of feature maps, place by place, collected while the network runs over data.

Measured where the consumers see the channels: at the input of each convolution or linear layer that reads a group, so
after activation and residual sum. Of each forward pass `POSITIONS` random places are kept: the maps of shallow layers
have far more than a C x C moment needs. SIRFP (arXiv 2412.12672) measures un-pooled maps, because pooling hides where
channels fire; sampling places keeps that and leaves a hundredth of the arithmetic.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.evidence.moments import Moments, Sample, Tap, find_taps
from prunekit_runtime.spelling import option

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class Statistics:
    """The moments of every free group."""

    groups: Mapping[str, tuple[Moments, ...]]

    def seen(self, group: str) -> tuple[Moments, ...]:
        """Return the moments at the consumers that saw data; at the producers where no consumer is a layer.

        Raises:
            PruneError: the group was never seen.
        """
        for at in ("input", "output"):
            found = tuple(moments for moments in self.groups.get(group, ()) if moments.at == at)
            if found:
                return found
        raise PruneError(
            f"Group {group} was never used while the data ran: no batch was given, or its layers are not called "
            f"as modules. Choose {option('criterion', 'l2')}, which reads weights only."
        )


class Collector:
    """Measures while it is open: `with Collector(network, coupling) as collector: ...; collector.statistics()`.

    Args:
        network: the network that was analysed.
        coupling: its analysis.
        seed: of the sampled places.
        every: measure every so many forward passes; the others cost a function call a layer.
        producers: measure at the producers' outputs too, where consumers were seen; otherwise only until they are.
    """

    def __init__(
        self, network: nn.Module, coupling: Coupling, *, seed: int = 0, every: int = 1, producers: bool = False
    ) -> None:
        self._network, self._every, self._passes, self._producers = network, every, 0, producers
        self._read: set[str] = set()
        self._latest: Sample | None = None
        self._taps = [tap for group in coupling.free for tap in find_taps(group, network, seed)]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles = [self._network.register_forward_pre_hook(self._count)]
        self._handles += [self._attach(tap) for tap in self._taps]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._latest = None

    def statistics(self) -> Statistics:
        """Return what was seen so far, summed over the ranks of a distributed training.

        Raises:
            PruneError: a layer reads or makes values that are not finite.
        """
        groups: dict[str, tuple[Moments, ...]] = {}
        for tap in self._taps:
            if (moments := tap.moments()) is not None:
                groups[tap.group] = (*groups.get(tap.group, ()), moments)
        return Statistics(groups)

    def _count(self, *_: object) -> None:
        self._passes += 1

    def _attach(self, tap: Tap) -> torch.utils.hooks.RemovableHandle:
        layer = self._network.get_submodule(tap.layer)
        channel_dim = -1 if isinstance(layer, nn.Linear) else 1

        def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if args:
                self._measure(tap, args[0], channel_dim)

        def after(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._measure(tap, output, channel_dim)

        return layer.register_forward_pre_hook(before) if tap.at == "input" else layer.register_forward_hook(after)

    def _measure(self, tap: Tap, features: Tensor, channel_dim: int) -> None:
        wanted = self._producers or tap.at == "input" or tap.group not in self._read
        if not wanted or (self._passes - 1) % self._every:
            return
        if self._latest is None or not self._latest.is_of(features, tap.index_MU):
            self._latest = tap.sample(features, channel_dim)
        tap.add(self._latest)
        if tap.at == "input":
            self._read.add(tap.group)


def collect(
    network: nn.Module,
    coupling: Coupling,
    batches: Iterable[BatchT],
    *,
    seed: int = 0,
    forward: Callable[[BatchT], object] | None = None,
) -> Statistics:
    """Return the moments of every free group, measured while the network runs over `batches` in evaluation mode.

    Args:
        network: the network that was analysed; its mode is left as it was.
        coupling: its analysis.
        batches: images_B3HW, on the network's device, or whatever `forward` takes.
        seed: of the sampled places.
        forward: how to run a batch, where it is not `network(images)`.

    Raises:
        PruneError: no batch was given, values are not finite, or a group that the network uses outside training is
            never seen because its layers are not called as modules.
    """
    modes = [(child, child.training) for child in network.modules()]
    network.eval()
    try:
        with Collector(network, coupling, seed=seed) as collector, torch.no_grad():
            for batch in batches:
                (forward or network)(batch)
            statistics = collector.statistics()
    finally:
        for child, training in modes:
            child.training = training
    for group in coupling.free:
        if coupling.runs(group):
            statistics.seen(group.name)
    return statistics
