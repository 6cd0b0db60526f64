"""The CCS head: class centres conditioned on the scene replace the rows of the final 1x1 classifier.

Reconstructed: of CCS (arXiv 2301.04870) the abstract was at hand, and the equations are those of its author's
development code, which differs from version to version. A coarse classifier gives soft masks M, the masks average the
features X into one vector F_k a class, a projection A_k of its own (the ACCM, a grouped 1x1 convolution) makes that the
class's centre c_k in this scene, and the prediction is the dot product of pixel and centre.

B batch, D features, K classes, h w the features' size, N = h w.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunekit.errors import ModelUsageError
from prunekit.models.outputs import adapt

Mask = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class CcsTerms:
    """What the CCS losses look at, from one training forward; the centres are those the prediction uses, W included.

    `height` and `width` [px] are the size of the (padded) images that the maps cover; 0 when that is the labels' size.
    """

    coarse_BKhw: Tensor
    features_BDhw: Tensor
    centres_BKD: Tensor
    height: int = 0
    width: int = 0


class CCSHead(nn.Module):
    """Features_BDhw -> logits_BKhw by class centres that the scene shapes.

    With P = W x + b the coarse logits and M = mask(P):

        F_k = sum_n M_nk x_n / N         divided by N, not by the mask's mass: an absent class keeps its static centre
        c_k = A_k F_k + a_k              grouped 1x1 convolution, one group a class
        Y_nk = <x_n, c_k>  (+ <x_n, W_k> + b_k with `residual`)

    With `residual`, A and a start at zero, so training starts as the plain head W, b. As in the authors' code the
    residual does not train W (detached): W learns from the coarse loss alone, a_k is the main loss's static part.
    """

    def __init__(self, in_channels: int, num_classes: int, mask: Mask = "softmax", residual: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mask: Mask = mask
        self.residual = residual
        self.coarse = nn.Conv2d(in_channels, num_classes, 1)
        self.accm = nn.Conv2d(num_classes * in_channels, num_classes * in_channels, 1, groups=num_classes)
        self.terms: CcsTerms | None = None
        self._initialise()

    def _initialise(self) -> None:
        nn.init.kaiming_normal_(self.coarse.weight, nonlinearity="linear")
        nn.init.zeros_(_bias(self.coarse))
        if self.residual:
            nn.init.zeros_(self.accm.weight)
            nn.init.zeros_(_bias(self.accm))
        else:
            # F_k is small (it is divided by N), so without W the static part a_k carries the head at the start.
            nn.init.normal_(_bias(self.accm), std=self.coarse.in_channels**-0.5)

    def forward(self, features_BDhw: Tensor) -> Tensor:
        """Return logits_BKhw; in training mode, leave the terms for the loss in `terms`."""
        coarse_BKhw = self.coarse(features_BDhw)
        scene_BKD = scene_features(features_BDhw, coarse_BKhw, self.mask)
        centres_BKD = project(self.accm, scene_BKD)
        logits_BKhw = similarity(features_BDhw, centres_BKD)
        if self.training:
            self.terms = CcsTerms(coarse_BKhw, features_BDhw, self._predicting(centres_BKD))
        if self.residual:
            logits_BKhw = logits_BKhw + self._static(features_BDhw, coarse_BKhw)
        return logits_BKhw

    def take_terms(self) -> CcsTerms | None:
        """Return the terms of the last training forward and forget them."""
        terms, self.terms = self.terms, None
        return terms

    def _predicting(self, centres_BKD: Tensor) -> Tensor:
        """The centres that the pixels are compared with, W included where it takes part."""
        return centres_BKD + self.coarse.weight.detach().flatten(1) if self.residual else centres_BKD

    def _static(self, features_BDhw: Tensor, coarse_BKhw: Tensor) -> Tensor:
        """X W^T + b: the coarse logits, computed again in training so that its gradient passes W by."""
        if not self.training:
            return coarse_BKhw
        return F.conv2d(features_BDhw, self.coarse.weight.detach(), _bias(self.coarse).detach())


def scene_features(features_BDhw: Tensor, coarse_BKhw: Tensor, mask: Mask) -> Tensor:
    """Return scene_BKD, F_k = sum_n M_nk x_n / N: the mean over all pixels of features weighted by a class's mask."""
    masks_BKhw = coarse_BKhw.softmax(dim=1) if mask == "softmax" else coarse_BKhw.sigmoid()
    height, width = features_BDhw.shape[-2:]
    # 1/h before and 1/w after the sum: in float16 the masks over N would underflow and an undivided sum overflow.
    masks_BKN = (masks_BKhw / height).flatten(2)
    features_BND = features_BDhw.flatten(2).transpose(1, 2)
    return torch.bmm(masks_BKN, features_BND) / width


def project(accm: nn.Conv2d, scene_BKD: Tensor) -> Tensor:
    """Return centres_BKD = A_k F_k + a_k, each class by its group of `accm`."""
    centres_BKD11 = accm(scene_BKD.flatten(1)[:, :, None, None])
    return centres_BKD11.reshape(scene_BKD.shape)


def similarity(features_BDhw: Tensor, centres_BKD: Tensor) -> Tensor:
    """Return logits_BKhw, the dot product of every pixel with every centre of its image."""
    height, width = features_BDhw.shape[-2:]
    logits_BKN = torch.bmm(centres_BKD, features_BDhw.flatten(2))
    return logits_BKN.unflatten(2, (height, width))


def with_ccs(network: nn.Module, num_classes: int) -> nn.Module:
    """Replace the final classifier convolution of `network`, in place, by a CCSHead on the same features.

    The classifier is found by running the network: it is the convolution with `num_classes` outputs that, when a
    constant is added to its output, shifts the main logits by exactly that constant.

    Raises:
        ModelError: no convolution or several do so, or the one that does is grouped, strided or shared.
    """
    name = _classifier_name(network, num_classes)
    convolution = network.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    head = CCSHead(convolution.in_channels, num_classes).to(convolution.weight.device, convolution.weight.dtype)
    head.train(convolution.training)
    if not name:
        return head
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, head)
    return network


def _classifier_name(network: nn.Module, num_classes: int) -> str:
    candidates = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.out_channels == num_classes
    ]
    shifting = [name for name in candidates if _shifts_logits(network, name, num_classes)]
    if len(shifting) != 1:
        found = f"{len(shifting)} ({', '.join(shifting)})" if shifting else "none"
        raise ModelUsageError(
            f"head = ccs replaces the network's final classifier, a convolution with {num_classes} outputs that "
            f"becomes the logits; found {found}. Use head = plain, or a network with one such convolution."
        )
    _check_classifier(network, shifting[0])
    return shifting[0]


def _check_classifier(network: nn.Module, name: str) -> None:
    convolution = network.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    if convolution.groups != 1 or convolution.stride != (1, 1) or convolution.kernel_size not in {(1, 1), (3, 3)}:
        raise ModelUsageError(
            f"head = ccs replaces a 1x1 or 3x3 convolution without stride and groups; the classifier {name!r} "
            f"is {convolution}. Use head = plain."
        )


@torch.no_grad()
def _shifts_logits(network: nn.Module, name: str, num_classes: int) -> bool:
    """Whether adding a constant to this convolution's output adds the same constant to the main logits."""
    images_B3HW = torch.linspace(-1, 1, 3 * 128 * 160).reshape(1, 3, 128, 160).to(next(network.parameters()).device)
    shift_K11 = torch.linspace(1, 2, num_classes, device=images_B3HW.device)[:, None, None]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        before, _ = adapt(network(images_B3HW), num_classes)
        convolution = network.get_submodule(name)

        def shift(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + shift_K11

        handle = convolution.register_forward_hook(shift)
        try:
            after, _ = adapt(network(images_B3HW), num_classes)
        finally:
            handle.remove()
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.allclose(after - before, shift_K11.expand_as(before), atol=1e-3 * float(1 + before.abs().max()))


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
