"""Weights of the classes in the loss, given or from how often each occurs in the training masks.

Shapes: K classes.
"""

from typing import Final

import torch
from torch import Tensor

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.labels.counts import count_labels
from prunekit.errors import ConfigError
from prunekit.recipe import TrainConfig

_POWERS: Final = {"sqrt": -0.5, "inverse": -1.0}


def make_class_weights(config: TrainConfig, dataset: SegmentationDataset) -> Tensor | None:
    """Return the recipe's weights_K, float32; None where `train.class_weights` is none.

    Counts are those that a run keeps of its labels: of all training images where the data set knows them, else of up to
    100 images spread over it.

    Raises:
        ConfigError: a list of weights has another length than the class list, or no mask holds a class.
        DataError: a sample cannot be read.
    """
    asked, classes = config.class_weights, dataset.classes
    if asked == "none":
        return None
    if isinstance(asked, str):
        pixels_K = torch.tensor(count_labels(dataset).pixels, dtype=torch.float64)
        if not pixels_K.sum():
            raise ConfigError("No counted pixel of the training masks has a class. Set train.class_weights to none.")
        return weights_of(asked, pixels_K)
    if len(asked) != len(classes):
        raise ConfigError(
            f"train.class_weights lists {len(asked)} weights, the data set has {len(classes)} classes "
            f"({', '.join(classes.names[:4])}, ...). Give one number for each, in this order."
        )
    return torch.tensor(asked, dtype=torch.float32)


def weights_of(kind: str, pixels_K: Tensor) -> Tensor:
    """Return weights_K, float32: "sqrt" f^-1/2 or "inverse" f^-1 of a class's share f, of mean 1 over the pixels.

    A class without a pixel gets the weight of the rarest one that has some: it may occur where nothing was counted.
    """
    share_K = pixels_K.double() / pixels_K.sum()
    rarest = share_K[share_K > 0].min()
    raw_K = share_K.clamp(min=float(rarest)) ** _POWERS[kind]
    return (raw_K / (raw_K * share_K).sum()).float()
