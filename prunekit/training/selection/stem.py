"""The stem: the shallow part of a network whose features score a sample, found by cost and run alone.

Shapes: B batch, C channels, H W the images' size, h w the features' size.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prunekit.errors import ConfigError

MAX_SHARE = 0.25  # at a quarter of the MACs, scoring all samples pays from a pruned fraction of 1/12 on


@dataclass(frozen=True)
class Stem:
    """A place to cut the forward pass."""

    name: str
    """Name of the module inside the network."""
    channels: int
    share: float
    """Share of the forward pass's MACs that is spent when the module ends."""


def find_stem(network: nn.Module, images_B3HW: Tensor, name: str = "") -> Stem:
    """Return the stem called `name`, or else the last module that ends within a quarter of the MACs.

    A stem runs once in a forward pass and returns one feature map.

    Raises:
        ConfigError: the named module is no stem, or none ends early enough; lists what there is.
    """
    stems = _stems(network, images_B3HW)
    if name:
        if name not in stems:
            raise ConfigError(
                f"selection.stem {name!r} is not a module that runs once and returns a feature map. {_few(stems)}"
            )
        return stems[name]
    early = [stem for stem in stems.values() if 0 < stem.share <= MAX_SHARE]
    if not early:
        raise ConfigError(
            f"No module ends within {MAX_SHARE:.0%} of the MACs, so selection.stem must name one. {_few(stems)}"
        )
    return early[-1]


class StemRunner:
    """Runs a network up to its stem: no gradients, no statistics of batch norms touched, the rest never computed."""

    def __init__(self, network: nn.Module, stem: Stem) -> None:
        self._network = network
        self._module = network.get_submodule(stem.name)

    def features(self, images_B3HW: Tensor, forward: Callable[[Tensor], object]) -> Tensor:
        """Return features_BChw; `forward` is what runs the network, its padding included."""
        was_training = self._network.training
        handle = self._module.register_forward_hook(_stop)
        self._network.eval()
        try:
            with torch.no_grad():
                forward(images_B3HW)
        except _Stopped as stopped:
            return stopped.features_BChw
        finally:
            handle.remove()
            self._network.train(was_training)
        raise AssertionError("the stem was found by running it, so it runs")


class _Stopped(Exception):  # noqa: N818  not an error: it carries the features out of the forward pass
    def __init__(self, features_BChw: Tensor) -> None:
        super().__init__("the forward pass ends at the stem")
        self.features_BChw = features_BChw


def _stop(module: nn.Module, inputs: object, output: Tensor) -> None:  # noqa: ARG001  torch's hook signature
    raise _Stopped(output)


def _stems(network: nn.Module, images_B3HW: Tensor) -> dict[str, Stem]:
    """Return every possible stem in the order in which they end."""
    ended: list[tuple[str, int, int]] = []
    calls: Counter[str] = Counter()
    flops = FlopCounterMode(display=False)

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG001  torch's hook signature
            calls[name] += 1
            if isinstance(output, Tensor) and output.ndim == 4:
                ended.append((name, output.shape[1], flops.get_total_flops()))

        return record

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules() if name]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), flops:
            network(images_B3HW)
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    total = max(flops.get_total_flops(), 1)
    return {name: Stem(name, channels, spent / total) for name, channels, spent in ended if calls[name] == 1}


def _few(stems: dict[str, Stem]) -> str:
    shown = [f"{stem.name} ({stem.share:.0%} of the MACs)" for stem in stems.values() if "." not in stem.name][:12]
    return (
        f"Modules to name: {', '.join(shown)}." if shown else "This network has none; use another selection.strategy."
    )
