"""Training mode without what is drawn or iterated in it, so that two networks may be compared there."""

from typing import Final

from torch import nn
from torch.nn.utils import parametrizations

_STILL: Final = (nn.modules.dropout._DropoutNd, parametrizations._SpectralNorm)  # pyright: ignore[reportPrivateUsage]  no public names
_DROPPED_PATHS: Final = frozenset({"DropPath", "StochasticDepth"})
"""timm's and torchvision's names, which other libraries took over: whole branches are left out, image by image."""


def set_mode(module: nn.Module, *, training: bool) -> nn.Module:
    """Put a network into a mode and return it.

    Dropout of values and of paths and the iterations of spectral norms stay in evaluation mode.
    """
    for layer in module.train(training).modules():
        if isinstance(layer, _STILL) or type(layer).__name__ in _DROPPED_PATHS:
            layer.eval()
    return module
