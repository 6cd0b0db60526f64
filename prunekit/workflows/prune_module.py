"""One stage of `prunekit prune` for a network and batches of your own: no run directory, no fine-tuning.

Shapes: B batch, H height, W width.
"""

import copy
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.errors import PruneError
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.allocation import Target, allocate
from prunekit.pruning.analysis import analyse
from prunekit.pruning.compensation import reestimate_norms_
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria.criterion import Criterion
from prunekit.pruning.criteria.evidence import Evidence, Labelled
from prunekit.pruning.criteria.registry import criterion
from prunekit.pruning.plan import Plan, make_plan
from prunekit.pruning.surgery import prune_
from prunekit.pruning.verify import verify
from prunekit.recipe import TrainConfig
from prunekit.training.losses import training_loss
from prunekit.workflows.pruning.cutting import compensated
from prunekit.workflows.pruning.judging import statistics_of
from prunekit.workflows.pruning.selecting import Chooses, Keep

BATCHES = 16
"""Batches that are looked at, as many as `prunekit prune` takes."""


@dataclass(frozen=True)
class PrunedModule:
    """A cut network, and what was done to it."""

    network: nn.Module
    """In evaluation mode; its modules are of the types they were. Train it on."""
    plan: Plan
    """Cuts another copy of the same network: `prunekit.pruning.prune_`."""
    exactness: float
    """Largest difference from the masked network, relative to the largest output."""
    macs_before: int
    """Of one image."""
    macs_after: int


def prune_module(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    ratio: float = 0.5,
    *,
    criterion_name: str = "sirfp",
    align: int = 8,
    stride: int = 1,
    ignore_index: int = IGNORE_INDEX,
    seed: int = 0,
) -> PrunedModule:
    """Return a cut copy of a trained network: ranked, compensated, proved, its batch norms measured anew.

    Args:
        network: images_B3HW -> logits, a tuple that begins with them, or a mapping with "out"; stays as it is.
        batches: (images_B3HW float32 as the network gets them, labels_BHW) of training images; 16 are looked at.
        num_classes: channels of the logits.
        ratio: share of the MACs to remove.
        criterion_name: as `prunekit prune --list-criteria` lists them.
        align: channels are kept in multiples of this.
        stride: images are padded to multiples of this.
        ignore_index: label of the pixels that do not count.
        seed: of what a criterion draws.

    Raises:
        PruneError: the batches do not fit, the network cannot be analysed, the ratio is out of reach, or the cut
            network is not exact.
    """
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    labelled = [_checked(*batch, num_classes, ignore_index, device) for batch in itertools.islice(batches, BATCHES)]
    if not labelled:
        raise PruneError("There are no batches to judge the channels on. Give some batches of training images.")
    segmenter = Segmenter(copy.deepcopy(network), num_classes, stride).eval()
    example = segmenter.padded(labelled[0].images_B3HW[:1])
    coupling = analyse(segmenter.network, (example,))
    evidence = _evidence(segmenter, coupling, labelled, ignore_index, seed)
    judge = criterion(criterion_name)
    keep = _chosen(judge, evidence, Target("ratio", ratio), align)
    compensated(evidence, keep, statistics_of(evidence), judge, "auto")
    plan = make_plan(coupling, keep)
    error = verify(segmenter.network.eval(), plan, coupling, (example,))
    prune_(segmenter.network, plan)
    reestimate_norms_(segmenter.network, (batch.images_B3HW for batch in labelled), segmenter)
    return PrunedModule(segmenter.network.eval(), plan, error, coupling.macs(), coupling.macs(keep))


def _checked(
    images_B3HW: Tensor, labels_BHW: Tensor, num_classes: int, ignore_index: int, device: torch.device
) -> Labelled:
    if images_B3HW.dim() != 4 or labels_BHW.shape != (len(images_B3HW), *images_B3HW.shape[2:]):
        raise PruneError(
            f"A batch holds images {tuple(images_B3HW.shape)} and labels {tuple(labels_BHW.shape)}. Give images "
            "(B, 3, H, W) and labels (B, H, W) of the same size."
        )
    if labels_BHW.is_floating_point() or not torch.isfinite(images_B3HW).all():
        raise PruneError("Images must be finite numbers and labels whole ones. Prepare the batches as for training.")
    counted = labels_BHW[labels_BHW != ignore_index]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < num_classes:
        raise PruneError(
            f"Labels run from {int(counted.min())} to {int(counted.max())}, and there are {num_classes} classes. "
            f"Labels lie in 0..{num_classes - 1}, or are {ignore_index}, which does not count."
        )
    return Labelled(images_B3HW.to(device), labels_BHW.to(device, torch.int64))


def _evidence(
    segmenter: Segmenter, coupling: Coupling, labelled: list[Labelled], ignore_index: int, seed: int
) -> Evidence:
    config = TrainConfig()

    def loss(images_B3HW: Tensor, labels_BHW: Tensor) -> Tensor:
        return training_loss(segmenter.outputs(images_B3HW), labels_BHW, config, ignore_index)

    return Evidence(
        network=segmenter.network,
        coupling=coupling,
        batches=lambda: labelled,
        forward=segmenter,
        loss=loss,
        num_classes=segmenter.num_classes,
        ignore_index=ignore_index,
        seed=seed,
    )


def _chosen(judge: Criterion, evidence: Evidence, target: Target, align: int) -> Keep:
    """Let the criterion rank, and share the cut out as it asks for; or let it choose, if it does both in one."""
    if judge.allocation == "paper":
        return cast(Chooses, judge).keep(evidence, target, align, table=None)
    return allocate(evidence.coupling, judge.rank(evidence), target, policy=judge.allocation, align=align).keep
