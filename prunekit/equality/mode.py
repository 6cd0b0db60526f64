"""Training mode without what is drawn or iterated in it, so that two networks may be compared there."""

from torch import nn
from torch.nn.utils import parametrizations


def set_mode(module: nn.Module, *, training: bool) -> nn.Module:
    """Put a network into a mode and return it; dropout and the iterations of spectral norms stay in evaluation mode."""
    for layer in module.train(training).modules():
        if isinstance(layer, (nn.modules.dropout._DropoutNd, parametrizations._SpectralNorm)):  # pyright: ignore[reportPrivateUsage]  no public names
            layer.eval()
    return module
