"""The training loss: cross-entropy or its rebalanced form, auxiliary heads, and the CCS head's own terms.

Shapes: B batch, K classes, H height, W width.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from prunekit.models.segmenter import Outputs
from prunekit.recipe import TrainConfig
from prunekit.training.losses.ccs_loss import ccs_losses
from prunekit.training.losses.gsrl import rebalanced_weights, weighted_cross_entropy


def training_loss(
    outputs: Outputs, labels_BHW: Tensor, config: TrainConfig, ignore_index: int, drawn_B: Tensor | None = None
) -> Tensor:
    """Return the weighted sum of all loss terms, a float32 scalar; the weights are the recipe's.

    Args:
        outputs: logits and what else the network gave.
        labels_BHW: int64.
        config: which loss, and the weights of its terms.
        ignore_index: label of the pixels that do not count.
        drawn_B: int64, the class each crop was drawn for, where classes are drawn; only gsrl reads it.
    """
    pixel_loss = _pixel_loss(outputs.logits_BKHW, labels_BHW, config, ignore_index, drawn_B)
    loss = pixel_loss(outputs.logits_BKHW)
    for aux_BKHW in outputs.aux.values():
        loss = loss + config.aux_weight * pixel_loss(aux_BKHW)
    if outputs.ccs is not None:
        terms = ccs_losses(outputs.ccs, labels_BHW, ignore_index)
        loss = loss + config.ccs_coarse_weight * terms.coarse
        loss = loss + config.ccs_inter_weight * terms.inter + config.ccs_intra_weight * terms.intra
    return loss


def cross_entropy(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """Return the mean cross-entropy over the pixels that count; 0, not nan, where none does."""
    total = F.cross_entropy(logits_BKHW.float(), labels_BHW, ignore_index=ignore_index, reduction="sum")
    return total / (labels_BHW != ignore_index).sum().clamp(min=1)


def _pixel_loss(
    logits_BKHW: Tensor, labels_BHW: Tensor, config: TrainConfig, ignore_index: int, drawn_B: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """Return the loss of any head's logits; the main head's decide gsrl's weights for all."""
    if config.loss == "ce":
        return lambda head_BKHW: cross_entropy(head_BKHW, labels_BHW, ignore_index)
    weights_BHW = rebalanced_weights(logits_BKHW, labels_BHW, drawn_B, ignore_index)
    return lambda head_BKHW: weighted_cross_entropy(head_BKHW, labels_BHW, weights_BHW, ignore_index)
