"""Multi-task importance (after Chen et al. 2022, MTP, arXiv 2007.08386): classification and segmentation together.

The paper's formulae could not be obtained: all here is our reading of its idea, that a segmentation backbone was
pre-trained for classification, and that a filter matters for both tasks. No classification data comes with a trained
segmentation network, so the images of the statistics batches are classified by the classes that stand in them.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.criteria.taylor import gate_scores
from prunekit.pruning.evidence import Evidence
from prunekit_runtime.spelling import option

# The weight mu of the classification task; 0 is the control, which is `taylor`.
CLASSIFICATION_WEIGHT = 1.0


def multi_task_scores(evidence: Evidence, weight: float = CLASSIFICATION_WEIGHT) -> Scores:
    """Add the Taylor importances of both tasks, each divided by its mean over the whole network."""
    segmentation = _relative(gate_scores(evidence))
    classification = _relative(gate_scores(replace(evidence, loss=_classification(evidence))))
    return {name: segmentation[name] + weight * classification[name] for name in segmentation}


def presence(labels_BHW: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Return [B, K]: 1 where a class stands somewhere in the image."""
    known_BHW = labels_BHW != ignore_index
    onehot_BNK = F.one_hot(labels_BHW.masked_fill(~known_BHW, 0).flatten(1).long(), num_classes)
    return (onehot_BNK * known_BHW.flatten(1)[..., None]).amax(dim=1)


def logits_of(evidence: Evidence, images_B3HW: Tensor, *further: Tensor) -> Tensor:
    """Return logits_BKHW.

    Raises:
        PruneError: the forward pass returns something else.
    """
    logits = evidence.forward(images_B3HW, *further)
    if not isinstance(logits, Tensor) or logits.dim() != 4 or logits.shape[1] != evidence.num_classes:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PruneError(
            f"The forward pass must return logits of {evidence.num_classes} classes, [B, K, H, W]; it returned {got}. "
            f"Wrap the network in a Segmenter, or choose {option('criterion', 'taylor')}, which needs the loss only."
        )
    return logits


def _classification(evidence: Evidence) -> Callable[..., Tensor]:
    """Average logits over the image, as the classifiers do that backbones are pre-trained as; ask yes or no a class."""

    def loss(images_B3HW: Tensor, labels_BHW: Tensor, *further: Tensor) -> Tensor:
        logits_BK = logits_of(evidence, images_B3HW, *further).mean(dim=(2, 3))
        target_BK = presence(labels_BHW, evidence.num_classes, evidence.ignore_index).to(logits_BK)
        return F.binary_cross_entropy_with_logits(logits_BK, target_BK)

    return loss


def _relative(scores: Scores) -> dict[str, FloatArray]:
    mean = float(np.concatenate(list(scores.values())).mean())
    return {name: score_U / mean if mean > 0 else score_U for name, score_U in scores.items()}
