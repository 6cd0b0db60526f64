"""mIoU of a network at the labels' own size, with the preprocessing contract that the device will use.

Shapes: B batch, K classes, h, w the network's size with padding, H, W the labels' size.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.loading import eval_batches
from prunekit.metrics import ConfusionMatrix
from prunekit.models.segmenter import Segmenter
from prunekit.models.soundness import check_logits
from prunekit.progress import tell
from prunekit_runtime.preprocessing import Preprocessing


def evaluate(
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    contract: Preprocessing,
    *,
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int, int], None] | None = None,
) -> ConfusionMatrix:
    """Run the network over a data set in float32 and count its confusions.

    Args:
        segmenter: put into evaluation mode and back.
        dataset: images and labels at their own sizes.
        contract: how images become inputs, and logits labels.
        batch_size: images a forward pass; images of different sizes never share one.
        device: where the network lies.
        on_batch: called with (images done, images in all) after each batch; None tells whoever listens.

    Raises:
        ModelError: logits are not finite, so that no pixel has a class.
    """
    confusion = ConfusionMatrix(len(dataset.classes), dataset.classes.ignore_index)
    was_training, done = segmenter.training, 0
    segmenter.eval()
    try:
        with torch.inference_mode():
            for batch in eval_batches(dataset, contract, batch_size=batch_size):
                logits_BKhw = segmenter(batch.images_B3HW.to(device))
                check_logits(logits_BKhw)
                for logits_Khw, labels_HW in zip(logits_BKhw, batch.labels, strict=True):
                    height, width = labels_HW.shape
                    confusion.update(labels_HW, restored_labels(logits_Khw, contract, height, width).cpu())
                done += len(batch.labels)
                if on_batch is None:
                    tell("Evaluating", done, len(dataset))
                else:
                    on_batch(done, len(dataset))
    finally:
        segmenter.train(was_training)
    return confusion


def restored_labels(logits_Khw: Tensor, contract: Preprocessing, height: int, width: int) -> Tensor:
    """Return the class of each pixel of an image of this size, int64 [height, width], as the contract has it."""
    rows, columns = contract.resized_size(height, width)
    cropped_1Khw = logits_Khw[None, :, :rows, :columns].float()
    if (rows, columns) != (height, width):
        cropped_1Khw = F.interpolate(cropped_1Khw, size=(height, width), mode="bilinear", align_corners=False)
    return cropped_1Khw[0].argmax(dim=0)
