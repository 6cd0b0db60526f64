"""Whether a network still computes numbers: one that does not gets neither a score nor a model file."""

from typing import Final

import torch
from torch import Tensor, nn

from prunekit.errors import ModelError

LARGEST: Final = 1e9
"""Of a logit or a loss. Trained networks stay below 1e3, batch norms that have seen a few steps only bring 1e6, and a
step that blows up the weights 1e12 and more, which float32 still holds."""
_STATISTICS: Final = ("running_mean", "running_var")


def check_weights(network: nn.Module) -> None:
    """Refuse parameters and statistics that are not finite; other buffers may be infinite, as attention masks are.

    Raises:
        ModelError: one is not; names the first.
    """
    learnt = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        strict = name in learnt or name.endswith(_STATISTICS)
        if not bool(value.isfinite().all() if strict else ~value.isnan().any()):
            raise ModelError(f"{name} of the network is not finite (nan or infinity). Its training diverged.")


def check_logits(logits: Tensor) -> None:
    """Refuse logits that are not finite, or so large that the network must have diverged.

    Raises:
        ModelError: they are.
    """
    largest = float(logits.detach().abs().max()) if logits.numel() else 0.0  # nan stays nan
    if not largest < LARGEST:
        said = f"of {largest:.1e}" if largest < torch.inf else "that are not finite (nan or infinity)"
        raise ModelError(f"The network gives logits {said}. Its training diverged, or its weights are damaged.")
