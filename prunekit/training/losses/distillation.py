"""Distillation from the dense network: a frozen teacher, and two ways to follow its logits.

Shapes: B batch, K classes, H W the images' size, T the temperature.
"""

import hashlib
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from prunekit.models.segmenter import Segmenter
from prunekit.recipe import TrainConfig


class Teacher:
    """A network that is followed, not trained: frozen in place and in evaluation mode from here on.

    `fit` moves it to the training's device and back to the CPU.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter.eval().requires_grad_(False)

    def logits(self, images_B3HW: Tensor) -> Tensor:
        """Return logits_BKHW at the images' size, without gradients; the batch norms' statistics stay."""
        with torch.no_grad():  # not inference mode, whose tensors a loss cannot save for its backward pass
            return self.segmenter.eval()(images_B3HW)

    def to(self, device: torch.device, layout: torch.memory_format) -> None:
        """Move the network."""
        cast(Any, self.segmenter).to(device=device, memory_format=layout)

    @cached_property
    def identity(self) -> str:
        """A hash of the weights: a resumed training must follow the same teacher."""
        digest = hashlib.sha256()
        for name, value in sorted(self.segmenter.state_dict().items()):
            digest.update(f"\n{name} {tuple(value.shape)} {value.dtype}\n".encode())
            digest.update(value.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def distillation_loss(
    logits_BKHW: Tensor, teacher_BKHW: Tensor, labels_BHW: Tensor, config: TrainConfig, ignore_index: int
) -> Tensor:
    """Return the recipe's distillation loss, a float32 scalar, not yet weighted.

    "logits" leaves ignored pixels out; "channel" compares whole maps, as published, and needs no labels.
    """
    if config.distill == "channel":
        return channel_loss(logits_BKHW, teacher_BKHW, config.distill_temperature)
    return logits_loss(logits_BKHW, teacher_BKHW, labels_BHW != ignore_index, config.distill_temperature)


def logits_loss(logits_BKHW: Tensor, teacher_BKHW: Tensor, counted_BHW: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the mean over the counted pixels of KL(teacher || student), over classes; 0 if none counts.

    Softened by T, and scaled by T^2 so that the gradient's size does not depend on it (Hinton et al. 2015, arXiv
    1503.02531, section 2).
    """
    student, teacher = _log_softmax(logits_BKHW, temperature, 1), _log_softmax(teacher_BKHW, temperature, 1)
    divergence_BHW = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    # A product would keep what is not finite in the ignored pixels.
    total = divergence_BHW.where(counted_BHW, 0.0).sum()
    return temperature**2 * total / counted_BHW.sum().clamp(min=1)


def channel_loss(logits_BKHW: Tensor, teacher_BKHW: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the mean over images and classes of KL(teacher || student), over the places of a class map.

    Each class map becomes a distribution over its H * W places by a softmax (Shu et al. 2021, arXiv 2011.13256,
    eqs. 4 to 6, with T = 4 there).
    """
    student_BKN = _log_softmax(logits_BKHW.flatten(2), temperature, 2)
    teacher_BKN = _log_softmax(teacher_BKHW.flatten(2), temperature, 2)
    divergence_BK = F.kl_div(student_BKN, teacher_BKN, reduction="none", log_target=True).sum(dim=2)
    return temperature**2 * divergence_BK.mean()


def _log_softmax(logits: Tensor, temperature: float, dim: int) -> Tensor:
    return F.log_softmax(logits.float() / temperature, dim=dim)
