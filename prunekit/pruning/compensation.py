"""Compensation: what the removed channels carried is expressed by the kept ones and folded into their consumers.

For every consumer of a group, the removed channels are regressed on the kept ones at the consumer's own input, place by
place (ridge least squares on the second moments that the redundancy was measured on), and the regression is folded
into the consumer's weight. Nothing is added to the network, and its other layers stay as they are. The idea is that of
channel pruning by reconstruction (He et al. 2017, arXiv 1707.06168) and of optimal brain surgery, in closed form and
for all consumers at once; SIRFP's code folds relu(beta) of the removed channels only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria.members import kernel_overlap
from prunekit.pruning.statistics import Moments, Statistics

RIDGE = 1e-3
"""Ridge of the regression, relative to the mean second moment of the kept channels."""


def compensate_(
    network: nn.Module,
    coupling: Coupling,
    keep: Mapping[str, Sequence[int]],
    statistics: Statistics,
    ridge: float = RIDGE,
) -> tuple[str, ...]:
    """Change the weights of the dense `network` in place so that it needs the removed channels less; then cut it.

    Args:
        network: the dense network, as it was measured.
        coupling: its analysis.
        keep: kept unit positions per group, as for `make_plan`.
        statistics: moments at the consumers' inputs.
        ridge: relative to the mean second moment of the kept channels.

    Returns:
        Names of the layers that were changed. Consumers that read a unit in several places or in groups, and those
        that share their weight with another layer or compute it, are not.

    Raises:
        PruneError: the statistics do not belong to this network.
    """
    changed: list[str] = []
    for group in coupling.free:
        kept = np.asarray(keep.get(group.name, range(group.width)), dtype=np.int64)
        if len(kept) == group.width:
            continue
        for moments in statistics.groups.get(group.name, ()):
            if moments.at == "input" and _foldable(network, moments):
                _fold(network, moments, torch.from_numpy(kept), ridge)
                changed.append(moments.layer)
    return tuple(dict.fromkeys(changed))


def regression(moments: Moments, kept: Tensor, ridge: float, *, centred: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return (removed units, weights_RK, intercept_R): x_removed = weights_RK x_kept + intercept_R, least squares.

    Uncentred, the intercept is zero: for consumers that have no bias to take it up.
    """
    width = len(moments.sum_U)
    gone = torch.ones(width, dtype=torch.bool)
    gone[kept] = False
    removed = gone.nonzero().flatten()
    second_UU, mean_U = moments.moment_UU / moments.places, moments.sum_U / moments.places
    if centred:
        second_UU = second_UU - mean_U[:, None] * mean_U[None, :]
    kept_KK = second_UU[kept][:, kept]
    strength = ridge * kept_KK.diagonal().mean().clamp_min(1e-30)
    kept_KK = kept_KK + strength * torch.eye(len(kept), dtype=kept_KK.dtype)
    weights_RK = torch.linalg.solve(kept_KK, second_UU[kept][:, removed]).T
    intercept_R = mean_U[removed] - weights_RK @ mean_U[kept]
    return removed, weights_RK, intercept_R if centred else torch.zeros_like(intercept_R)


def reestimate_norms_(
    network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object] | None = None
) -> int:
    """Measure the running statistics of every batch norm anew, as the plain mean over `batches`; return their number.

    Everything but the batch norms runs in evaluation mode. Modes and momenta are left as they were.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]  no public base
    norms = [norm for norm in norms if norm.track_running_stats]
    modes = [(child, child.training) for child in network.modules()]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative mean
            norm.train()
        with torch.no_grad():
            for images_B3HW in batches:
                # Behind global pooling one image has no variance: twice the same has the same mean.
                (forward or network)(images_B3HW if len(images_B3HW) > 1 else torch.cat([images_B3HW, images_B3HW]))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for child, training in modes:
            child.training = training
    return len(norms)


def _foldable(network: nn.Module, moments: Moments) -> bool:
    """Tell whether the consumer reads each unit in exactly one place of an ungrouped weight of its own."""
    layer = network.get_submodule(moments.layer)
    if getattr(layer, "groups", 1) != 1 or not moments.slot.parameter.endswith(".weight"):
        return False
    if sum(getattr(other, "weight", None) is layer.weight for other in network.modules()) > 1:
        return False  # what was measured at one layer does not hold at the other that uses the weight
    return len(moments.index_MU) == 1


def _fold(network: nn.Module, moments: Moments, kept: Tensor, ridge: float) -> None:
    layer = network.get_submodule(moments.layer)
    weight, bias = cast(Tensor, layer.weight), cast(Tensor | None, getattr(layer, "bias", None))
    if weight.shape[moments.slot.dim] != len(moments.slot.labels):
        raise PruneError(f"{moments.layer} was measured with other channels. Collect the statistics of this network.")
    removed, weights_RK, intercept_R = regression(moments, kept, ridge, centred=bias is not None)
    with torch.no_grad():
        rows_IO = weight.detach().movedim(moments.slot.dim, 0).flatten(1).double()
        (index_U,) = moments.index_MU.to(weight.device)
        into, out_of = index_U[kept.to(weight.device)], index_U[removed.to(weight.device)]
        lost_RO = rows_IO[out_of]
        rows_IO[into] += weights_RK.T.to(weight.device) @ lost_RO
        shape = weight.movedim(moments.slot.dim, 0).shape
        weight.copy_(rows_IO.view(shape).movedim(0, moments.slot.dim))
        if bias is not None:
            bias.add_(_through_kernel(lost_RO, intercept_R.to(weight.device), shape) / kernel_overlap(layer))


def _through_kernel(lost_RO: Tensor, intercept_R: Tensor, shape: torch.Size) -> Tensor:
    """Return what a constant input on the removed channels adds to each output: the sum over the kernel's places."""
    per_output_RO = lost_RO.view(len(lost_RO), shape[1], -1).sum(dim=2)
    return intercept_R @ per_output_RO
