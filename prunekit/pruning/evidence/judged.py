"""A trained network and labelled batches, and the gradients that they give: what evidence is collected from."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunekit.models.narrow import NarrowConvolutionsContiguous
from prunekit.pruning.coupling import Coupling


class Labelled(NamedTuple):
    """One training batch on the network's device."""

    images_B3HW: Tensor
    labels_BHW: Tensor

    @property
    def further(self) -> tuple[Tensor, ...]:
        """The network's other inputs; most read images alone."""
        return ()


class LabelledInputs(Labelled):
    """A batch of a network that reads more than images. As a tuple it is (images, labels), as for all criteria."""

    _further: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, images_B3HW: Tensor, labels_BHW: Tensor, further: tuple[Tensor, ...]) -> "LabelledInputs":
        """Make one."""
        batch = cls(images_B3HW, labels_BHW)
        batch._further = further
        return batch

    @property
    def further(self) -> tuple[Tensor, ...]:
        """The network's inputs after the first."""
        return self._further


@dataclass
class Judged:
    """A trained network and the data to judge its channels by."""

    network: nn.Module
    """What was analysed, as trained."""
    coupling: Coupling
    batches: Callable[[], Iterable[Labelled]]
    """Opens the statistics batches; the same ones at every call."""
    forward: Callable[..., object]
    """Runs (images_B3HW, *further) through the network, padding and all."""
    loss: Callable[..., Tensor]
    """The training loss of (images_B3HW, labels_BHW, *further): a scalar, the mean over the batch."""
    num_classes: int
    ignore_index: int = 255
    seed: int = 0

    def run(self, batch: Labelled) -> object:
        """Run one batch through the network."""
        return self.forward(batch.images_B3HW, *batch.further)

    def gradients(self) -> Iterator[Labelled]:
        """Run forward and backward batch by batch in evaluation mode; after each, parameters hold its gradients.

        Batch norms keep their running statistics, so samples do not see each other. Gradients are cleared in the end.
        """
        modes = [(child, child.training) for child in self.network.modules()]
        self.network.eval()
        try:
            for batch in self.batches():
                self.network.zero_grad(set_to_none=True)
                with torch.enable_grad(), NarrowConvolutionsContiguous():
                    images_B3HW = batch.images_B3HW.detach()
                    if images_B3HW.is_floating_point():  # gradients reach layers behind frozen ones too
                        images_B3HW.requires_grad_()
                    self.loss(images_B3HW, batch.labels_BHW, *batch.further).backward()
                yield batch
        finally:
            self.network.zero_grad(set_to_none=True)
            for child, training in modes:
                child.training = training
