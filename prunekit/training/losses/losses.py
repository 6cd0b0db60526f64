"""The training loss: by pixel and by overlap, of the main head and auxiliary ones, and the CCS head's own terms.

Shapes: B batch, K classes, H height, W width.
"""

from collections.abc import Callable

from torch import Tensor

from prunekit.models.segmenter import Outputs
from prunekit.recipe import TrainConfig
from prunekit.training.losses.ccs_loss import ccs_losses
from prunekit.training.losses.gsrl import rebalanced_weights, weighted_cross_entropy
from prunekit.training.losses.overlap import dice_loss, lovasz_loss
from prunekit.training.losses.pixelwise import cross_entropy, focal_loss, ohem_loss


def training_loss(
    outputs: Outputs,
    labels_BHW: Tensor,
    config: TrainConfig,
    ignore_index: int,
    drawn_B: Tensor | None = None,
    weights_K: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of all loss terms, a float32 scalar; the weights are the recipe's.

    Args:
        outputs: logits and what else the network gave.
        labels_BHW: int64.
        config: which loss, and the weights of its terms.
        ignore_index: label of the pixels that do not count.
        drawn_B: int64, the class each crop was drawn for, where classes are drawn; only gsrl reads it.
        weights_K: of the classes, for ce, ohem and focal; None weighs all alike.
    """
    pixel_loss = _pixel_loss(outputs.logits_BKHW, labels_BHW, config, ignore_index, drawn_B, weights_K)
    loss = pixel_loss(outputs.logits_BKHW)
    for aux_BKHW in outputs.aux.values():
        loss = loss + config.aux_weight * pixel_loss(aux_BKHW)
    if outputs.ccs is not None:
        terms = ccs_losses(outputs.ccs, labels_BHW, ignore_index)
        loss = loss + config.ccs_coarse_weight * terms.coarse
        loss = loss + config.ccs_inter_weight * terms.inter + config.ccs_intra_weight * terms.intra
    return loss


def _pixel_loss(
    logits_BKHW: Tensor,
    labels_BHW: Tensor,
    config: TrainConfig,
    ignore_index: int,
    drawn_B: Tensor | None,
    weights_K: Tensor | None,
) -> Callable[[Tensor], Tensor]:
    """Return the loss of any head's logits; the main head's decide gsrl's weights for all."""
    given = labels_BHW, ignore_index
    hard = {"threshold": config.ohem_threshold, "min_share": config.ohem_min_share}
    by_name: dict[str, Callable[[Tensor], Tensor]] = {
        "ce": lambda head_BKHW: cross_entropy(head_BKHW, *given, weights_K),
        "ohem": lambda head_BKHW: ohem_loss(head_BKHW, *given, **hard, weights_K=weights_K),
        "focal": lambda head_BKHW: focal_loss(head_BKHW, *given, config.focal_gamma, weights_K),
    }
    if config.loss == "gsrl":
        weights_BHW = rebalanced_weights(logits_BKHW, labels_BHW, drawn_B, ignore_index)
        by_pixel = lambda head_BKHW: weighted_cross_entropy(head_BKHW, labels_BHW, weights_BHW, ignore_index)  # noqa: E731
    else:
        by_pixel = by_name[config.loss]
    return lambda head_BKHW: _with_overlap(by_pixel(head_BKHW), head_BKHW, labels_BHW, config, ignore_index)


def _with_overlap(
    loss: Tensor, logits_BKHW: Tensor, labels_BHW: Tensor, config: TrainConfig, ignore_index: int
) -> Tensor:
    if config.dice_weight:
        loss = loss + config.dice_weight * dice_loss(logits_BKHW, labels_BHW, ignore_index)
    if config.lovasz_weight:
        loss = loss + config.lovasz_weight * lovasz_loss(logits_BKHW, labels_BHW, ignore_index)
    return loss
