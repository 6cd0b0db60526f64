"""A network of the caller's own: what of it is analysed, how a batch runs through it, and what its loss is.

Shapes: B batch, K classes, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.models.outputs import main_output
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.analysis import analyse as analyse_inputs
from prunekit.pruning.coupling import Coupling
from prunekit.recipe import TrainConfig
from prunekit.training.losses import training_loss
from prunekit_runtime.spelling import in_python

Loss = Callable[[Any, Any], Tensor]
"""The loss of (what the network returns, labels): a scalar tensor, the mean over the batch."""
_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


@dataclass(frozen=True)
class Subject:
    """A network, and the batches' way through it."""

    whole: nn.Module
    """What the caller has: called with a batch's inputs."""

    @property
    def network(self) -> nn.Module:
        """What is analysed and cut: a Segmenter's inner network, whose names the commands show; else the whole."""
        return self.whole.network if isinstance(self.whole, Segmenter) else self.whole

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next((tensor.device for tensor in self.whole.parameters()), torch.device("cpu"))

    def example(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return inputs as the analysed network gets them, on its device."""
        moved = tuple(value.to(self.device) if isinstance(value, Tensor) else value for value in inputs)
        return (self.whole.padded(moved[0]), *moved[1:]) if isinstance(self.whole, Segmenter) else moved

    def num_classes(self, inputs: tuple[Any, ...]) -> int | None:
        """Return the channels of the logits, found by one run; None where the network returns no logits_BKHW."""
        if isinstance(self.whole, Segmenter):
            return self.whole.num_classes
        modes = [(module, module.training) for module in self.whole.modules()]
        self.whole.eval()
        try:
            with torch.no_grad():
                main = main_output(self.whole(*self.example(inputs)))
        finally:
            for module, training in modes:
                module.training = training
        return int(main.shape[1]) if main is not None and main.dim() == 4 else None

    def segmenter(self, num_classes: int, further: tuple[Tensor, ...] = ()) -> Segmenter:
        """Return the network behind the contract that losses read: images_B3HW -> logits_BKHW of their size."""
        if isinstance(self.whole, Segmenter):
            return self.whole
        return Segmenter(_Bound(self.whole, further) if further else self.whole, num_classes)

    def logits(self, num_classes: int) -> Callable[..., Tensor]:
        """Return what runs a batch's inputs to logits_BKHW."""
        return lambda images_B3HW, *further: self.segmenter(num_classes, further)(images_B3HW)

    def class_loss(self, num_classes: int, ignore_index: int) -> Callable[..., Tensor]:
        """Return the cross-entropy of the pixels' classes, auxiliary heads included, as `prunekit train` has it."""
        config = TrainConfig()

        def loss(images_B3HW: Tensor, labels_BHW: Tensor, *further: Tensor) -> Tensor:
            outputs = self.segmenter(num_classes, further).outputs(images_B3HW)
            return training_loss(outputs, labels_BHW, config, ignore_index)

        return loss

    def own_loss(self, given: Loss) -> Callable[..., Tensor]:
        """Return the caller's loss, told what the network returns, as it is."""

        def loss(first: Tensor, labels: Any, *further: Tensor) -> Tensor:
            value = cast(object, given(self.whole(first, *further), labels))
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise PruneError(
                    f"The loss gave {got}; expected one number that follows from the network's outputs, as "
                    "a tensor. Return the mean over the batch, without detach() or item()."
                )
            return value.reshape(())

        return loss


class _Bound(nn.Module):
    """A network of several inputs, all but the first in place: one of images alone."""

    def __init__(self, network: nn.Module, further: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.network = network
        self.further = further

    def forward(self, images_B3HW: Tensor) -> Any:
        """Return what the network returns."""
        return self.network(images_B3HW, *self.further)


def check_plain(model: nn.Module) -> None:
    """Refuse wrappers whose copy is no network of its own.

    Raises:
        PruneError: the model is one.
    """
    inner = _WRAPPERS.get(type(model).__name__)
    if inner is not None and hasattr(model, inner):
        raise PruneError(f"The model is wrapped in {type(model).__name__}. Give the network inside: model.{inner}")


@in_python()
def analyse(model: nn.Module, example_inputs: Tensor | tuple[Any, ...]) -> Coupling:
    """Find which channels of a network go together, which cannot go, and why.

    Args:
        model: any network that torch.export can trace; it stays as it is. Of a Segmenter, the network inside.
        example_inputs: images_B3HW, or a tuple of all that the network reads. MACs are counted at their sizes.

    Returns:
        groups of channels: `free` ones can be pruned, `frozen` says why one of `groups` cannot; `macs()`, `params()`.

    Raises:
        PruneError: torch.export cannot trace the network; the message holds its reason.
    """
    check_plain(model)
    subject = Subject(model)
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    return analyse_inputs(subject.network, subject.example(inputs))
