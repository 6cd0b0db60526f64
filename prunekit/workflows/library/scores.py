"""How well logits fit labels: what `prunekit.evaluate` counts, whatever gave the logits.

Shapes: B batch, K classes, H W the labels' size, h w the size of the network's input.
"""

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from prunekit.data.dataset import ClassMap
from prunekit.errors import DataError, ModelError
from prunekit.metrics import ConfusionMatrix
from prunekit.models.soundness import check_logits
from prunekit.training.evaluate import restored_labels
from prunekit.workflows.library.progress import Progress
from prunekit_runtime.preprocessing import Preprocessing

Classes = int | Sequence[str] | ClassMap | None
"""K, or K names, or a class map; None for what the model says."""
STEP = "Evaluating"


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model reaches on labelled images. `print(scores)` tells it in short."""

    miou: float
    """Mean of the classes' IoU, without those that are neither in the labels nor in the predictions."""
    pixel_accuracy: float
    """Share of the counted pixels that are right."""
    iou: dict[str, float | None]
    """Intersection over union of each class; None where it is neither in the labels nor in the predictions."""
    confusion_KK: Tensor
    """Pixels by true class (rows) and predicted class (columns), int64."""
    images: int

    def __str__(self) -> str:
        width = max(map(len, self.iou))
        rows = [f"{name:<{width}}  {'-' if iou is None else f'{iou:.4f}'}" for name, iou in self.iou.items()]
        total = f"mIoU {self.miou:.4f}, pixel accuracy {self.pixel_accuracy:.4f}, {self.images} images"
        return "\n".join([total, *rows])


def score(
    run: Callable[[Tensor], Tensor],
    batches: Iterable[Any],
    classes: Classes,
    known: ClassMap | None,
    contract: Preprocessing | None,
    ignore_index: int,
    tell: Progress,
) -> Scores:
    """Count the confusions of what `run` makes of the batches.

    Args:
        run: images_B3hw -> logits_BKhw.
        batches: of (images_B3hw, labels_BHW).
        classes: what the caller says they are.
        known: what the model says they are.
        contract: how the model's images were prepared, where it says so: its padding is cut off the logits.
        ignore_index: label of the pixels that do not count.
        tell: told how many batches are done.

    Raises:
        DataError: there is no batch, one does not hold images and labels that fit, or no pixel counts.
        ModelError: the logits are not of those classes, or not finite.
    """
    confusion: ConfusionMatrix | None = None
    total, images = len(batches) if isinstance(batches, Sized) else 0, 0
    tell(STEP, 0, total)
    for done, batch in enumerate(batches, start=1):
        images_B3hw, labels_BHW = _pair(batch)
        logits_BKhw = run(images_B3hw)
        check_logits(logits_BKhw)
        confusion = confusion or ConfusionMatrix(_count(classes, known, logits_BKhw), ignore_index)
        _check_channels(logits_BKhw, confusion.num_classes)
        for logits_Khw, labels_HW in zip(logits_BKhw, labels_BHW, strict=True):
            confusion.update(labels_HW.cpu(), _labels(logits_Khw, contract, labels_HW.shape).cpu())
        images += len(labels_BHW)
        if total:
            tell(STEP, done, total)
    if confusion is None or not confusion.pixels:
        what = "There are no batches" if confusion is None else f"Every pixel has the label {ignore_index}"
        raise DataError(f"{what}, so there is nothing to score. Give labelled batches, and the right ignore_index.")
    return _scores(confusion, _names(classes, known, confusion.num_classes), images)


def _scores(confusion: ConfusionMatrix, names: tuple[str, ...], images: int) -> Scores:
    told = confusion.to_json()
    return Scores(
        miou=confusion.miou,
        pixel_accuracy=confusion.pixel_accuracy,
        iou=dict(zip(names, told["iou"], strict=True)),
        confusion_KK=confusion.counts_KK,
        images=images,
    )


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    """Return images_B3hw and labels_BHW of a batch."""
    parts = list(cast(Iterable[object], batch)) if isinstance(batch, tuple | list) else [batch]
    shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts[:5]]
    images, labels = (*parts, None, None)[:2]
    if (
        len(parts) != 2
        or not isinstance(images, Tensor)
        or not isinstance(labels, Tensor)
        or (images.dim(), labels.dim()) != (4, 3)
        or len(images) != len(labels)
    ):
        raise DataError(
            f"A batch holds {', '.join(map(str, shapes))}; expected images (B, 3, h, w) and labels (B, H, W). "
            'Pick them from a loader of dicts by: ((batch["image"], batch["mask"]) for batch in loader).'
        )
    if not images.is_floating_point() or labels.is_floating_point():
        raise DataError("Images must be floating-point tensors and labels integers. Prepare them as for training.")
    return images, labels


def _labels(logits_Khw: Tensor, contract: Preprocessing | None, size_HW: Sequence[int]) -> Tensor:
    """Return the class of each pixel at the labels' size."""
    height, width = size_HW
    size_hw = tuple(logits_Khw.shape[1:])
    if size_hw == (height, width):
        return logits_Khw.argmax(dim=0)
    if contract is not None and contract.network_size(height, width) == size_hw:
        return restored_labels(logits_Khw, contract, height, width)
    logits_1KHW = F.interpolate(logits_Khw[None].float(), (height, width), mode="bilinear", align_corners=False)
    return logits_1KHW[0].argmax(dim=0)


def _count(classes: Classes, known: ClassMap | None, logits_BKhw: Tensor) -> int:
    if classes is not None:
        return classes if isinstance(classes, int) else len(classes)
    return logits_BKhw.shape[1] if known is None else len(known)


def _names(classes: Classes, known: ClassMap | None, count: int) -> tuple[str, ...]:
    if isinstance(classes, ClassMap):
        return classes.names
    if classes is not None and not isinstance(classes, int):
        return tuple(classes)
    return known.names if known is not None else tuple(f"class {place}" for place in range(count))


def check_classes(classes: Classes) -> None:
    """Refuse names or a number that no network has.

    Raises:
        DataError: fewer than two, or a name twice.
    """
    if isinstance(classes, str) or (isinstance(classes, int) and not isinstance(classes, bool) and classes < 2):
        raise DataError(f"classes= takes a number of at least 2, or the names in their order; got {classes!r}.")
    if classes is None or isinstance(classes, int | ClassMap):
        return
    names = list(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"classes= takes at least 2 names, each once; got {names[:10]}.")


def _check_channels(logits_BKhw: Tensor, count: int) -> None:
    if logits_BKhw.shape[1] != count:
        raise ModelError(
            f"The model gives logits of {logits_BKhw.shape[1]} classes, and there are {count}. "
            "Give the classes that it was trained on: classes=."
        )


def in_chunks(run: Callable[[Tensor], Tensor], count: int) -> Callable[[Tensor], Tensor]:
    """Return a run for any number of images of one that takes `count` at once; missing ones repeat the last."""

    def chunked(images_B3hw: Tensor) -> Tensor:
        missing = -len(images_B3hw) % count
        filled = torch.cat([images_B3hw, images_B3hw[-1:].expand(missing, -1, -1, -1)]) if missing else images_B3hw
        return torch.cat([run(part) for part in filled.split(count)])[: len(images_B3hw)]

    return chunked
