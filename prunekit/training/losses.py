"""The training loss: cross-entropy with ignored pixels, auxiliary heads, and the CCS head's own terms.

Shapes: B batch, K classes, H height, W width.
"""

from torch import Tensor
from torch.nn import functional as F

from prunekit.models.segmenter import Outputs
from prunekit.recipe import TrainConfig
from prunekit.training.ccs_loss import ccs_losses


def training_loss(outputs: Outputs, labels_BHW: Tensor, config: TrainConfig, ignore_index: int) -> Tensor:
    """Return the weighted sum of all loss terms, a float32 scalar; the weights are the recipe's."""
    loss = cross_entropy(outputs.logits_BKHW, labels_BHW, ignore_index)
    for aux_BKHW in outputs.aux.values():
        loss = loss + config.aux_weight * cross_entropy(aux_BKHW, labels_BHW, ignore_index)
    if outputs.ccs is not None:
        terms = ccs_losses(outputs.ccs, labels_BHW, ignore_index)
        loss = loss + config.ccs_coarse_weight * terms.coarse
        loss = loss + config.ccs_inter_weight * terms.inter + config.ccs_intra_weight * terms.intra
    return loss


def cross_entropy(logits_BKHW: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
    """Return the mean cross-entropy over the pixels that count; 0, not nan, where none does."""
    total = F.cross_entropy(logits_BKHW.float(), labels_BHW, ignore_index=ignore_index, reduction="sum")
    return total / (labels_BHW != ignore_index).sum().clamp(min=1)
