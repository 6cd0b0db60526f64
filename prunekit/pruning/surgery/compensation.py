"""Compensation: what the removed channels carried is expressed by the kept ones and folded into their consumers.

For every consumer of a group, the removed channels are regressed on the kept ones at the consumer's own input, place by
place (ridge least squares on the second moments that the redundancy was measured on), and the regression is folded
into the consumer's weight. Nothing is added to the network, and its other layers stay as they are. The idea is that of
channel pruning by reconstruction (He et al. 2017, arXiv 1707.06168) and of optimal brain surgery, in closed form and
for all consumers at once; SIRFP's code folds relu(beta) of the removed channels only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.progress import counted
from prunekit.pruning.coupling import Coupling, kernel_overlap
from prunekit.pruning.evidence import Moments, Statistics
from prunekit.pruning.surgery.rows import set_weight_rows_, weight_rows

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
        Names of the layers that were changed. A layer that reads each unit in several places (a flattened map, a
        grouped convolution) and layers that share a weight get one regression for all of them. Layers that compute
        their weight, share it with one that reads something else, or read units in different groups, are not changed.

    Raises:
        PruneError: the statistics do not belong to this network.
    """
    changed: list[str] = []
    for group in counted(coupling.free, "Compensating, group by group", len(coupling.free)):
        kept = np.asarray(keep.get(group.name, range(group.width)), dtype=np.int64)
        if len(kept) == group.width:
            continue
        for readers in _by_weight(network, statistics.groups.get(group.name, ())):
            layers = [network.get_submodule(one.layer) for one in readers]
            _check_width(readers[0], layers[0])
            if _foldable(network, readers, layers):
                _fold(network, readers, layers, torch.from_numpy(kept), ridge)
                changed += [one.layer for one in readers]
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
    network: nn.Module,
    batches: Iterable[Tensor | tuple[Tensor, ...]],
    forward: Callable[..., object] | None = None,
) -> int:
    """Measure the running statistics of every batch norm anew, as the plain mean over `batches`; return their number.

    A batch is images_B3HW, or a tuple of all that the network reads.
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
            for batch in batches:
                inputs = batch if isinstance(batch, tuple) else (batch,)
                # Behind global pooling one image has no variance: twice the same has the same mean.
                (forward or network)(*(value if len(value) > 1 else torch.cat([value, value]) for value in inputs))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for child, training in modes:
            child.training = training
    return len(norms)


def _by_weight(network: nn.Module, seen: Iterable[Moments]) -> list[list[Moments]]:
    """Return what the group's readers were seen to read, those that use one weight together."""
    readers: dict[int, list[Moments]] = {}
    for moments in seen:
        if moments.at == "input" and moments.slot.parameter.endswith(".weight"):
            readers.setdefault(id(network.get_submodule(moments.layer).weight), []).append(moments)
    return list(readers.values())


def _check_width(moments: Moments, layer: nn.Module) -> None:
    if cast(Tensor, layer.weight).shape[moments.slot.dim] != len(moments.slot.labels):
        raise PruneError(f"{moments.layer} was measured with other channels. Collect the statistics of this network.")


def _foldable(network: nn.Module, readers: Sequence[Moments], layers: Sequence[nn.Module]) -> bool:
    """Tell whether one regression can go into the readers' weight: it is theirs alone, and units meet in its groups."""
    if not _own(network, "weight", layers):
        return False  # what was measured at these layers need not hold at the others
    index_MU = readers[0].index_MU
    if not all(torch.equal(one.index_MU, index_MU) for one in readers) or bool((index_MU < 0).any()):
        return False
    block_MU = index_MU // _channels_read(layers[0])
    return bool((block_MU == block_MU[:, :1]).all())


def _own(network: nn.Module, name: str, layers: Sequence[nn.Module]) -> bool:
    """Tell whether each layer has this tensor, and nothing else in the network holds it, under this name or another."""
    tensors = [getattr(layer, name, None) for layer in layers]
    held = [tensor for module in network.modules() for tensor in _tensors(module)]
    holders = sum(any(one is tensor for tensor in tensors) for one in held)
    return all(tensor is not None for tensor in tensors) and holders == len(set(layers))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Go through a module's own parameters and buffers, each as often as it has names."""
    yield from (tensor for _, tensor in module.named_parameters(recurse=False, remove_duplicate=False))
    yield from (tensor for _, tensor in module.named_buffers(recurse=False, remove_duplicate=False))


def _channels_read(layer: nn.Module) -> int:
    """Return how many input channels a group of a layer reads; of an ungrouped one, all."""
    return cast(int, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels // layer.groups)  # pyright: ignore[reportOperatorIssue]  both are int


def _fold(
    network: nn.Module, readers: Sequence[Moments], layers: Sequence[nn.Module], kept: Tensor, ridge: float
) -> None:
    """Let the kept units of a weight's readers stand in for the others; G are groups of the layer, k kernel places."""
    moments, layer = _together(readers), layers[0]
    centred = _own(network, "bias", layers)
    removed, weights_RK, intercept_R = regression(moments, kept, ridge, centred=centred)
    rows_IOk, reads = weight_rows(layer), _channels_read(layer)
    constant_GO = rows_IOk.new_zeros(len(rows_IOk) // reads, rows_IOk.shape[1])
    for index_U in moments.index_MU:
        into, out_of = index_U[kept], index_U[removed]
        lost_ROk = rows_IOk[out_of]
        rows_IOk[into] += torch.einsum("rk,rop->kop", weights_RK, lost_ROk)
        # A constant on the removed channels meets every place of the kernel.
        constant_GO[int(index_U[0]) // reads] += intercept_R @ lost_ROk.sum(dim=2)
    with torch.no_grad():
        set_weight_rows_(layer, rows_IOk)
        for one in {id(one.bias): one for one in layers}.values() if centred else ():
            bias = cast(Tensor, one.bias)
            bias.add_((constant_GO.flatten() / kernel_overlap(one)).to(bias))


def _together(readers: Sequence[Moments]) -> Moments:
    """Add up what layers of one weight were seen to read: the regression is one over all of their places."""
    return replace(
        readers[0],
        places=sum(one.places for one in readers),
        sum_U=torch.stack([one.sum_U for one in readers]).sum(dim=0),
        moment_UU=torch.stack([one.moment_UU for one in readers]).sum(dim=0),
    )
