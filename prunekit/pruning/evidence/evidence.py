"""What criteria may look at: the network, its coupling, and labelled batches. Each statistic is collected once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from prunekit.models.narrow import NarrowConvolutionsContiguous
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.evidence.gates import Gates, gate_gradients
from prunekit.pruning.evidence.judged import Labelled
from prunekit.pruning.evidence.statistics import Statistics, collect


@dataclass
class Evidence:
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

    @cached_property
    def statistics(self) -> Statistics:
        """Second moments of what the consumers of each group see."""
        return collect(self.network, self.coupling, self.batches(), seed=self.seed, forward=self.run)

    @cached_property
    def gates(self) -> dict[str, Gates]:
        """Gate gradients of each group, sample by sample."""
        return gate_gradients(self)

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
