"""A trained network and labelled batches, and the gradients that they give: what evidence is collected from."""

from typing import NamedTuple

from torch import Tensor


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
