"""The Segmenter contract: normalised images in, logits at the images' size out, whatever network is inside.

B batch, K classes, H W the images' size, h w the size of the network's logits.
"""

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunekit.errors import ModelError, ModelUsageError
from prunekit.models.ccs import CCSHead, CcsTerms
from prunekit.models.outputs import adapt


@dataclass(frozen=True)
class Outputs:
    """What training sees: main logits, auxiliary logits by name, and the CCS head's terms where there is one."""

    logits_BKHW: Tensor
    aux: dict[str, Tensor]
    ccs: CcsTerms | None


class Segmenter(nn.Module):
    """A network behind the contract: images_B3HW float32, normalised -> logits_BKHW at the same size.

    Images whose size is no multiple of `stride` are padded with zeros at the bottom and right, and the logits cropped:
    the `pad_multiple` rule of the preprocessing contract, so that both do the same. Logits that come smaller (or
    larger) than the images are resized bilinearly with half-pixel centres.
    """

    def __init__(self, network: nn.Module, num_classes: int, stride: int = 1) -> None:
        super().__init__()
        if num_classes < 2:
            raise ModelUsageError(
                f"num_classes must be at least 2, got {num_classes}. Count the background as a class."
            )
        if stride < 1:
            raise ModelError(f"stride must be at least 1, got {stride}.")
        self.network = network
        self.num_classes = num_classes
        self.stride = stride

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits_BKHW."""
        padded_B3HW = self.padded(images_B3HW)
        logits_BKhw, _ = adapt(self.network(padded_B3HW), self.num_classes)
        self._take_terms()
        return _at_size(logits_BKhw, padded_B3HW, images_B3HW)

    def outputs(self, images_B3HW: Tensor) -> Outputs:
        """Return the logits with what the losses need besides: auxiliary logits and, in training mode, CCS terms.

        The terms cover the padded images; their `height` and `width` say how far.
        """
        padded_B3HW = self.padded(images_B3HW)
        logits_BKhw, aux = adapt(self.network(padded_B3HW), self.num_classes)
        terms = self._take_terms()
        if terms is not None:
            terms = dataclasses.replace(terms, height=padded_B3HW.shape[-2], width=padded_B3HW.shape[-1])
        return Outputs(
            logits_BKHW=_at_size(logits_BKhw, padded_B3HW, images_B3HW),
            aux={name: _at_size(value, padded_B3HW, images_B3HW) for name, value in aux.items()},
            ccs=terms,
        )

    def padded(self, images_B3HW: Tensor) -> Tensor:
        """Return the images as the network gets them: below and right of them zeros, up to a multiple of the stride."""
        if self.stride == 1:
            return images_B3HW
        height, width = images_B3HW.shape[-2:]
        below, right = (-height) % self.stride, (-width) % self.stride
        return F.pad(images_B3HW, (0, right, 0, below)) if below or right else images_B3HW

    def _take_terms(self) -> CcsTerms | None:
        """Take the terms out of the CCS head, which must not keep a graph alive past the step."""
        taken = [head.take_terms() for head in self.network.modules() if isinstance(head, CCSHead)]
        return taken[0] if taken else None


def _at_size(logits_BKhw: Tensor, padded_B3HW: Tensor, images_B3HW: Tensor) -> Tensor:
    """Resize logits to the padded images and crop the padding."""
    if not _known_equal(logits_BKhw.shape[-2:], padded_B3HW.shape[-2:]):
        logits_BKhw = F.interpolate(logits_BKhw, padded_B3HW.shape[-2:], mode="bilinear", align_corners=False)
    if padded_B3HW is images_B3HW:
        return logits_BKhw
    return logits_BKhw[..., : images_B3HW.shape[-2], : images_B3HW.shape[-1]]


def _known_equal(size: torch.Size, other: torch.Size) -> bool:
    """Whether two sizes are equal; while exporting with open sizes, whether they are equal for every size.

    A plain comparison would tie the export to sizes for which it holds, and torch.export refuses that.
    """
    if not torch.compiler.is_exporting():
        return size == other
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return all(statically_known_true(mine == theirs) for mine, theirs in zip(size, other, strict=True))
