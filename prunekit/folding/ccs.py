"""The CCS head without what training needs: split exactly into a plain convolution and a scene term, or made static.

With S = a (+ W), the part of the centres that no scene changes, the head is exactly

    Y = X S^T + b  +  X (A F(x))^T

a 1x1 convolution, and a term of one KxD matrix an image. The masks M(x), the averages F(x) and A F(x) depend on the
scene: no fixed convolution equals them, so the static fold puts their mean over given scenes in their place.

B batch, D features, K classes, h w the features' size.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from prunekit.errors import FoldError
from prunekit.models.ccs import CCSHead, Mask, project, scene_features, similarity
from prunekit.models.segmenter import Segmenter


class SplitCcsHead(nn.Module):
    """The exact split: `plain` is one 1x1 convolution, the first K outputs of which are coarse, the rest static logits.

    Against the unsplit head it costs K D more MACs a pixel; for that the scene term alone, small beside the static
    logits, is left to products of activations, which matters in float16 and int8.
    """

    def __init__(self, plain: nn.Conv2d, accm: nn.Conv2d, mask: Mask) -> None:
        super().__init__()
        self.plain = plain
        self.accm = accm
        self.mask: Mask = mask

    def forward(self, features_BDhw: Tensor) -> Tensor:
        """Return logits_BKhw."""
        coarse_BKhw, static_BKhw = self.plain(features_BDhw).chunk(2, dim=1)
        scene_BKD = scene_features(features_BDhw, coarse_BKhw, self.mask)
        return static_BKhw + similarity(features_BDhw, project(self.accm, scene_BKD))


@torch.no_grad()
def fold_ccs_exact(head: CCSHead) -> SplitCcsHead:
    """Return the exact split of the head; the head does not change."""
    static_KD, bias_K = _static_part(head)
    weight_2KD = torch.cat([head.coarse.weight.flatten(1), static_KD])
    bias_2K = torch.cat([_bias(head.coarse), bias_K])
    channels = head.accm.weight.shape[0]  # K D
    accm = nn.Conv2d(channels, channels, 1, groups=head.num_classes, bias=False)
    accm.weight = nn.Parameter(head.accm.weight.clone())
    return SplitCcsHead(_convolution(weight_2KD, bias_2K), accm, head.mask).train(head.training)


@torch.no_grad()
def fold_ccs_static(head: CCSHead, mean_features_KD: Tensor) -> nn.Conv2d:
    """Return the plain head whose class centres are those of the mean scene: A_k E[F_k] + a_k (+ W_k).

    The centres are affine in F, so this is also the mean of the centres over the scenes.
    """
    static_KD, bias_K = _static_part(head)
    centres_KD = project(head.accm, mean_features_KD[None].to(static_KD.dtype))[0]
    shared_KD = static_KD - _bias(head.accm).reshape(static_KD.shape)  # `project` has already added a
    return _convolution(centres_KD + shared_KD, bias_K).train(head.training)


@torch.no_grad()
def mean_scene(segmenter: Segmenter, batches: Iterable[Tensor]) -> Tensor:
    """Return mean_features_KD, the mean of F_k over the images of all batches of images_B3HW; modes are put back.

    Raises:
        FoldError: the network has no CCS head, or there are no batches.
    """
    head = ccs_head(segmenter)[1]
    sums: list[Tensor] = []
    count = 0

    def collect(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        nonlocal count
        count += inputs[0].shape[0]
        sums.append(scene_features(inputs[0], head.coarse(inputs[0]), head.mask).double().sum(dim=0))

    modes = {module: module.training for module in segmenter.modules()}
    handle = head.register_forward_hook(collect)
    try:
        segmenter.eval()
        for images_B3HW in batches:
            segmenter(images_B3HW)
    finally:
        handle.remove()
        for module, training in modes.items():
            module.training = training
    if count == 0:
        raise FoldError("The static fold averages over images and got none. Give it some training images.")
    return (torch.stack(sums).sum(dim=0) / count).to(head.coarse.weight.dtype)


def ccs_head(segmenter: Segmenter) -> tuple[str, CCSHead]:
    """Return the name, inside the segmenter, and the module of its CCS head.

    Raises:
        FoldError: there is none, or more than one.
    """
    heads = [(name, module) for name, module in segmenter.named_modules() if isinstance(module, CCSHead)]
    if len(heads) != 1:
        raise FoldError(
            f"This fold needs a network with one CCS head, this one has {len(heads)}. Leave the CCS fold out."
        )
    return heads[0]


def _static_part(head: CCSHead) -> tuple[Tensor, Tensor]:
    """Return S_KD and b_K."""
    weight_KD = head.coarse.weight.flatten(1)
    static_KD = _bias(head.accm).reshape(weight_KD.shape)
    if head.residual:
        return static_KD + weight_KD, _bias(head.coarse)
    return static_KD, torch.zeros_like(_bias(head.coarse))


def _convolution(weight_OD: Tensor, bias_O: Tensor) -> nn.Conv2d:
    convolution = nn.Conv2d(weight_OD.shape[1], weight_OD.shape[0], 1, dtype=weight_OD.dtype)
    convolution.weight = nn.Parameter(weight_OD[:, :, None, None].clone())
    convolution.bias = nn.Parameter(bias_O.clone())
    return convolution


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
