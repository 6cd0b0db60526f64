"""What criteria are shown: the network with batches of training images, spread evenly and unaugmented.

Shapes: B batch, H height, W width, U units of one group.
"""

from collections.abc import Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from prunekit.data.transforms import EvalTransform, resize_labels
from prunekit.modelfile import LoadedModel
from prunekit.progress import counted
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.evidence import Collector, Evidence, Labelled, Statistics
from prunekit.training.losses import training_loss
from prunekit.workflows.pruning.config import changed
from prunekit.workflows.pruning.job import Job

READING: Final = "Reading channels on training images"


def evidence_of(loaded: LoadedModel, coupling: Coupling, job: Job) -> Evidence:
    """Return what a criterion may look at; the network lies on the device."""
    segmenter, ignore_index = loaded.segmenter, loaded.card.ignore_index
    # Batches have no drawn class, which the rebalanced loss weighs others by: gradients are those of the cross-entropy.
    config = changed(job.recipe, loss="ce").train

    def loss(images_B3HW: Tensor, labels_BHW: Tensor) -> Tensor:
        return training_loss(segmenter.outputs(images_B3HW), labels_BHW, config, ignore_index)

    return Evidence(
        network=segmenter.network,
        coupling=coupling,
        batches=lambda: labelled_batches(loaded, job, job.config.batches),
        forward=segmenter,
        loss=loss,
        num_classes=loaded.card.num_classes,
        ignore_index=ignore_index,
        seed=job.config.seed,
    )


def labelled_batches(loaded: LoadedModel, job: Job, count: int, step: str = READING) -> Iterator[Labelled]:
    """Yield up to `count` batches of training images spread evenly over the data set: neighbours in a video are alike.

    Images are prepared by the contract; labels are resized alike and ignored where the contract pads. `step` says to
    whoever listens what they are for.
    """
    size, transform = job.recipe.train.batch_size, EvalTransform(loaded.contract)
    parts = spread(len(job.train_set), size, count)
    for part in counted(parts, step, len(parts)):
        samples = [job.train_set[index] for index in part]
        images = [transform(sample.image_3HW) for sample in samples]
        labels = [_fitted(sample.labels_HW, images[0], loaded) for sample in samples]
        yield Labelled(torch.stack(images).to(job.device), torch.stack(labels).to(job.device))


def spread(total: int, size: int, count: int) -> list[list[int]]:
    """Return up to `count` batches of at most `size` indices below `total`: from end to end, evenly, of like sizes."""
    wanted = min(total, size * count)
    indices = [place * total // wanted for place in range(wanted)]
    batches = -(-wanted // size)
    return [indices[part * wanted // batches : (part + 1) * wanted // batches] for part in range(batches)]


def _fitted(labels_HW: Tensor, image_3hw: Tensor, loaded: LoadedModel) -> Tensor:
    """Return labels, int64, at the size of the network's input."""
    rows, columns = labels_HW.shape
    height, width = loaded.contract.resized_size(rows, columns)
    resized_hw = resize_labels(labels_HW, height, width).to(torch.int64)
    below, right = image_3hw.shape[1] - height, image_3hw.shape[2] - width
    return F.pad(resized_hw, (0, right, 0, below), value=loaded.card.ignore_index)


def statistics_of(evidence: Evidence) -> Statistics:
    """Return the moments of what consumers see, for compensation and report: those that a criterion collected, or new.

    A criterion that judges by them needs every group to be seen. Here a group may be missing: it is not compensated,
    and the report says that its redundancy is not known.
    """
    if isinstance(collected := vars(evidence).get("statistics"), Statistics):
        return collected
    evidence.network.eval()
    with Collector(evidence.network, evidence.coupling, seed=evidence.seed) as collector, torch.no_grad():
        for batch in evidence.batches():
            evidence.run(batch)
        return collector.statistics()
