"""Fold a trained segmenter for deployment and measure what that changed.

B batch, K classes, H W the images' size.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from prunekit.equality.compare import TOLERANCE, compare
from prunekit.errors import FoldError
from prunekit.folding.adjacency import NORMS
from prunekit.folding.batchnorm import fold_batch_norm
from prunekit.folding.ccs import ccs_head, fold_ccs_exact, fold_ccs_static, mean_scene
from prunekit.folding.compare import difference
from prunekit.models.ccs import CCSHead
from prunekit.models.segmenter import Segmenter

CcsFold = Literal["exact", "static"]


@dataclass(frozen=True)
class FoldReport:
    """What was folded, and the folded network against the unfolded on the scenes it was checked on.

    Batch norms are left where something else reads the convolution too, or where they compute more (timm's fuse an
    activation). `ccs` is "exact", "static" or, for a network without a CCS head, "none"; errors are relative to the
    largest logit.
    """

    batch_norms_folded: int
    batch_norms_left: int
    ccs: Literal["exact", "static", "none"]
    max_relative_error: float
    label_agreement: float
    float64_error: float | None = None
    """Of an exact fold that differs by more than 1e-4: the error in float64, which shows that this is rounding."""


def fold(
    segmenter: Segmenter, *, ccs: CcsFold = "exact", scenes: Iterable[Tensor] | None = None
) -> tuple[Segmenter, FoldReport]:
    """Return a folded copy in evaluation mode; the segmenter does not change.

    Args:
        segmenter: float32.
        ccs: "exact" splits a CCS head into a plain convolution and the scene term; "static" makes it a plain
            convolution for the mean of `scenes`, which changes the logits (the report says by how much).
        scenes: batches of images_B3HW, normalised. "static" needs them; "exact" is checked on noise without them.

    Raises:
        FoldError: "static" without scenes or without a CCS head, or an exact fold that is not equal: neither in
            float32, nor in float64 where float32 differs.
    """
    has_head = any(isinstance(module, CCSHead) for module in segmenter.modules())
    if ccs == "static" and (scenes is None or not has_head):
        missing = "some training images (scenes)" if has_head else "a network with a CCS head, and this one is plain"
        raise FoldError(f"The static fold needs {missing}. Use the exact fold.")
    batches = _noise(segmenter) if scenes is None else list(scenes)
    if not batches:
        raise FoldError("No images were given for the fold. Give at least one batch of images.")
    original = copy.deepcopy(segmenter).eval()
    folded, folded_norms = _folded(original, ccs, batches)
    measured = difference(original, folded, batches)
    if not math.isfinite(measured.max_relative_error):
        raise FoldError("The network gives logits that are not finite on these images. Train it again.")
    left = sum(isinstance(module, NORMS) for module in folded.modules())
    return folded, FoldReport(
        batch_norms_folded=len(folded_norms),
        batch_norms_left=left,
        ccs=ccs if has_head else "none",
        max_relative_error=measured.max_relative_error,
        label_agreement=measured.label_agreement,
        float64_error=_proved(original, batches, measured.max_relative_error) if ccs == "exact" else None,
    )


def _folded(original: Segmenter, ccs: CcsFold, batches: list[Tensor]) -> tuple[Segmenter, list[str]]:
    folded, folded_norms = fold_batch_norm(original, (batches[0],))
    assert isinstance(folded, Segmenter)
    if any(isinstance(module, CCSHead) for module in folded.modules()):
        _fold_head_(folded, ccs, batches)
    return folded, folded_norms


def _proved(original: Segmenter, batches: list[Tensor], error: float) -> float | None:
    """Return the error of an exact fold in float64 where float32 alone does not prove it.

    Raises:
        FoldError: it is not rounding.
    """
    if error <= TOLERANCE:
        return None

    def pair(wide: bool) -> tuple[nn.Module, nn.Module]:
        source = copy.deepcopy(original)
        source = source.double() if wide else source
        own = [batches[0].to(next(source.parameters()).dtype)]
        return source, _folded(source, "exact", own)[0]

    compared = [compare(pair, (batch,)) for batch in batches]
    for one in compared:
        if not one.equal:
            raise FoldError(
                f"The folded network is not proved equal to the network. {one.why()} "
                "Export without folding and report the network."
            )
    return max((one.refined for one in compared if one.refined is not None), default=None)


def _fold_head_(segmenter: Segmenter, ccs: CcsFold, batches: list[Tensor]) -> None:
    name, head = ccs_head(segmenter)
    replacement: nn.Module
    replacement = fold_ccs_exact(head) if ccs == "exact" else fold_ccs_static(head, mean_scene(segmenter, batches))
    segmenter.set_submodule(name, replacement)


def _noise(segmenter: Segmenter) -> list[Tensor]:
    """Two batches of unit noise, the scale of normalised images; the second of an odd size."""
    parameter = next(segmenter.parameters())
    generator = torch.Generator().manual_seed(0)
    sizes = ((128, 160), (131, 157))
    return [torch.randn(2, 3, *size, generator=generator).to(parameter.device, parameter.dtype) for size in sizes]
