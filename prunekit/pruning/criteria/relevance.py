"""Explanation-based relevance (Yeom et al. 2021, "Pruning by explaining"): what a channel adds to the right answers.

Layer-wise relevance propagation hands a class score down layer by layer; what arrives at a channel is its relevance.
With the rule LRP-0 relevance is activation times gradient; LRP-epsilon divides by z + epsilon instead of z, which takes
out what cancels. Here: gate gradients of the true classes' logits, with the gradient damped by z / (z + epsilon) where
an affine map is complete: at norms and at layers with a bias. Convolution and norm thus count as one layer, as in
"canonised" networks. Gates by sigmoid or softmax pass gradients as they are: our reading.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.criteria.multitask import logits_of
from prunekit.pruning.evidence import Evidence, gate_gradients

# Of the root mean square of z: the middle-layer rule of Montavon et al. 2019, "Layer-wise relevance propagation".
EPSILON = 0.25
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)  # pyright: ignore[reportPrivateUsage]  no public base
_AFFINE = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def relevance_scores(evidence: Evidence, epsilon: float = EPSILON) -> Scores:
    """Average over samples the absolute relevance of a unit for the true classes of the labelled pixels.

    Relevance is handed down whole, so layers are comparable (the paper ranks all filters together).
    """
    with _damped(evidence.network, epsilon):
        gates = gate_gradients(replace(evidence, loss=_true_logits(evidence)))
    return {name: group.gate_SU.abs().mean(dim=0).numpy() for name, group in gates.items()}


def _true_logits(evidence: Evidence) -> Callable[..., Tensor]:
    """The score that is explained: the true class's logit, the mean over the labelled pixels of each image."""

    def score(images_B3HW: Tensor, labels_BHW: Tensor, *further: Tensor) -> Tensor:
        logits_BKHW = logits_of(evidence, images_B3HW, *further)
        known_BHW = labels_BHW != evidence.ignore_index
        index_B1HW = labels_BHW.masked_fill(~known_BHW, 0).long()[:, None]
        true_BHW = logits_BKHW.gather(1, index_B1HW)[:, 0] * known_BHW
        return (true_BHW.flatten(1).sum(dim=1) / known_BHW.flatten(1).sum(dim=1).clamp_min(1)).mean()

    return score


@contextmanager
def _damped(network: nn.Module, epsilon: float) -> Generator[None]:
    """Scale the gradients of affine maps by z / (z + epsilon); values stay."""

    def after(_: nn.Module, __: tuple[Tensor, ...], z: Tensor) -> Tensor:
        with torch.no_grad():
            share = z / (z + epsilon * z.square().mean().sqrt() * torch.where(z < 0, -1.0, 1.0).to(z))
            share = share.nan_to_num_(nan=1.0)  # 0 / 0 in a map of zeros
            rest = z - z * share
        return z * share + rest

    handles = [module.register_forward_hook(after) for module in network.modules() if _completes(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _completes(module: nn.Module) -> bool:
    return isinstance(module, _NORMS) or (isinstance(module, _AFFINE) and module.bias is not None)
