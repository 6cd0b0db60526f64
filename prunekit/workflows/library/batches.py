"""Batches of a caller's own loader: the network's inputs, then labels if there are any.

Shapes: B batch, H height, W width.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from prunekit.errors import PruneError
from prunekit.pruning.evidence import Labelled, LabelledInputs

BATCHES = 16
"""Batches that are looked at, as many as `prunekit prune` takes."""


@dataclass(frozen=True)
class Seen:
    """The batches that a network is judged on, as the loader gave them."""

    inputs: tuple[tuple[Tensor, ...], ...]
    """Of each batch."""
    labels: tuple[Any, ...] | None
    """Of each batch; None where the loader gives none."""

    def on(self, device: torch.device) -> Iterable[Labelled]:
        """Yield the batches on a device, one at a time, so that only one needs its memory."""
        for place, (first, *further) in enumerate(self.inputs):
            labels = torch.empty(0) if self.labels is None else self.labels[place]
            moved = pytree.tree_map_only(Tensor, lambda value: value.to(device), (first, labels, tuple(further)))
            yield LabelledInputs.of(*moved) if further else Labelled(*moved[:2])


def seen(batches: Iterable[Any], inputs: int, count: int) -> Seen:
    """Take the first `count` batches.

    Args:
        batches: of (images, labels), or images alone; with several inputs, (input, input, ..., labels) or without.
        inputs: how many the network reads.
        count: batches at most; the loader is asked for no more.

    Raises:
        PruneError: there is none, one of them has another form, or an input is not finite.
    """
    parts = [_parts(batch, inputs) for batch in itertools.islice(batches, count)]
    if not parts:
        raise PruneError("There are no batches to judge the channels on. Give some batches of training images.")
    labelled = [len(part) > inputs for part in parts]
    if any(labelled) != all(labelled):
        raise PruneError("Some batches hold labels and some do not. Give labels with all of them, or with none.")
    return Seen(
        tuple(tuple(cast(list[Tensor], part[:inputs])) for part in parts),
        tuple(part[inputs] for part in parts) if labelled[0] else None,
    )


def _parts(batch: object, inputs: int) -> list[object]:
    """Return the inputs of a batch, and its labels where it holds one entry more."""
    parts = list(cast(list[object], batch)) if isinstance(batch, tuple | list) else [batch]
    if len(parts) not in (inputs, inputs + 1) or not all(isinstance(part, Tensor) for part in parts[:inputs]):
        kinds = ", ".join(_kind(part) for part in parts[:5])
        wanted = "(images, labels), or images alone" if inputs == 1 else f"{inputs} inputs, and labels or none"
        raise PruneError(
            f"A batch holds {kinds or 'nothing'}; expected {wanted}, as tensors. "
            'Pick them from a loader of dicts by: ((batch["image"], batch["mask"]) for batch in loader). '
            "A network that reads several tensors takes example_inputs=."
        )
    for part in cast(list[Tensor], parts[:inputs]):
        if part.is_floating_point() and not part.isfinite().all():
            raise PruneError("Images must be finite numbers. Prepare the batches as for training.")
    return parts


def _kind(part: object) -> str:
    return f"a tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__


def class_labels(inputs: tuple[Tensor, ...], labels: object, num_classes: int, ignore_index: int) -> Tensor:
    """Return labels_BHW, int64, checked against the images and the number of classes.

    Raises:
        PruneError: they do not fit.
    """
    images_B3HW = inputs[0]
    shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
    if images_B3HW.dim() != 4 or not isinstance(labels, Tensor) or shape != _label_shape(images_B3HW):
        raise PruneError(
            f"A batch holds images {tuple(images_B3HW.shape)} and labels {shape}. Give images "
            "(B, 3, H, W) and labels (B, H, W) of the same size; for another task, give its loss= too."
        )
    if not images_B3HW.is_floating_point() or labels.is_floating_point():
        raise PruneError("Images must be floating-point tensors and labels integers. Prepare them as for training.")
    counted = labels[labels != ignore_index]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < num_classes:
        raise PruneError(
            f"Labels run from {int(counted.min())} to {int(counted.max())}, and there are {num_classes} classes. "
            f"Labels lie in 0..{num_classes - 1}, or are {ignore_index}, which does not count."
        )
    return labels.to(torch.int64)


def _label_shape(images_B3HW: Tensor) -> tuple[int, ...]:
    return (len(images_B3HW), *images_B3HW.shape[2:])
