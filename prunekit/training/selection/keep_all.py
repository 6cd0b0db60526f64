"""No selection: every sample is trained on."""

from collections.abc import Mapping

import torch
from torch import Tensor

from prunekit.training.selection.base import Place


class KeepAll:
    """Trains on every sample."""

    def select(self, images_B3HW: Tensor, place: Place) -> Tensor:  # noqa: ARG002  the protocol's signature
        """Return all positions."""
        return torch.arange(images_B3HW.shape[0])

    def state(self) -> dict[str, Tensor]:
        """Return nothing: there is nothing to remember."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""
