"""The gradient term of the second version: DCFP's equalisation importance criterion on batch norms' scales.

Shapes: C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.criteria.sirfp_paper.collector import DECAY
from prunekit.pruning.criteria.sirfp_paper.members import NormLayer
from prunekit_runtime.spelling import option

GRADIENT_WEIGHT = 0.4
"""Of the gradient term beside the degree, in every part (sirfp.md 1.2 d)."""


class GradientTerm:
    """The moving average of |dL/dgamma| over the steps that would shrink |gamma|.

    g = dL/dgamma; where g gamma > 0: I <- r I + (1 - r) |g|, elsewhere I stays. I starts at 0. Gradients have to be
    unscaled: the official code reads them times the loss scale under mixed precision (sirfp.md 1.4, item 5).
    Source: sirfp.md 3, a reading of the official code of DCFP.

    Args:
        network: whose gradients are read.
        layers: which batch norms, and which of their channels.
        decay: of the moving average.

    Raises:
        PruneError: a batch norm has no scale.
    """

    def __init__(self, network: nn.Module, layers: Sequence[NormLayer], *, decay: float = DECAY) -> None:
        self._decay = decay
        self._scales = {layer.name: (_scale(network, layer.name), torch.from_numpy(layer.index_C)) for layer in layers}
        self._importance = {name: torch.zeros(len(index_C)) for name, (_, index_C) in self._scales.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the gradients that the parameters hold now into the averages; without a gradient nothing moves."""
        for name, (scale, index_C) in self._scales.items():
            if scale.grad is None:
                continue
            gradient_C = scale.grad.float().cpu()[index_C]
            shrinks_C = gradient_C * scale.detach().float().cpu()[index_C] > 0
            moved_C = self._decay * self._importance[name] + (1 - self._decay) * gradient_C.abs()
            self._importance[name] = torch.where(shrinks_C, moved_C, self._importance[name])

    def values(self) -> dict[str, Tensor]:
        """Return the importance of the channels of each batch norm, float32 on the CPU.

        Raises:
            PruneError: a value is not finite.
        """
        for name, value in self._importance.items():
            if not bool(value.isfinite().all()):
                raise PruneError(f"The gradient of {name}'s scale is not finite on this data. Prune with fp32.")
        return {name: value.clone() for name, value in self._importance.items()}


def _scale(network: nn.Module, name: str) -> nn.Parameter:
    scale = getattr(network.get_submodule(name), "weight", None)
    if not isinstance(scale, nn.Parameter):
        raise PruneError(
            f"Batch norm {name} has no scale, which the gradient term needs. "
            f"Choose a criterion without that term, such as {option('criterion', 'sirfp')}."
        )
    return scale
