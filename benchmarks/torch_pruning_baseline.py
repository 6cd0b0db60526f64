"""Networks cut by Torch-Pruning 1.6.1 (`pip install torch-pruning==1.6.1`): what its users get, to compare with."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from prunekit.pruning.analysis import analyse

Shape = tuple[int, int, int, int]
BISECTIONS = 10
CLOSE = 0.0005
"""Of the share of MACs; nearer than this is not looked for."""


@dataclass(frozen=True)
class UniformL2:
    """Every layer loses the same share of its channels, those of least L2 norm; counts are multiples of `round_to`."""

    classes: int
    """Layers with so many channels stay whole: the heads."""
    round_to: int

    def at_share(self, network: nn.Module, shape: Shape, share: float) -> tuple[float, float]:
        """Return the pruning ratio, of all a bisection tries, that leaves nearest to `share` of the MACs, and what it leaves.

        MACs are prunekit's count.
        """
        low, high = 0.0, 1.0
        dense = _macs(network, shape)
        tried: list[tuple[float, float, float]] = []
        while len(tried) < BISECTIONS and (not tried or min(tried)[0] > CLOSE):
            ratio = (low + high) / 2
            left = _macs(self.cut(network, shape, ratio), shape) / dense
            tried.append((abs(left - share), ratio, left))
            low, high = (ratio, high) if left > share else (low, ratio)
        return min(tried)[1:]

    def cut(self, network: nn.Module, shape: Shape, ratio: float) -> nn.Module:
        """Return a cut copy."""
        import torch_pruning as tp  # pyright: ignore[reportMissingImports]  no dependency

        cut = copy.deepcopy(network).eval()
        heads: list[nn.Module] = [
            layer for layer in cut.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == self.classes
        ]
        tp.pruner.MagnitudePruner(
            cut,
            torch.zeros(shape),
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            round_to=self.round_to,
            ignored_layers=heads,
        ).step()
        return cut


def _macs(network: nn.Module, shape: Shape) -> int:
    return analyse(network, (torch.zeros(shape),)).macs()
