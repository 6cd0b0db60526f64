"""SIRFP as prunekit does it: redundancy place by place, where and as far as the consumers and the loss see it.

Of SIRFP (arXiv 2412.12672) it keeps the idea: channels that repeat each other go first, measured on un-pooled maps,
chosen greedily. What differs:

* measured at the consumers' inputs, so after activation and residual sum, on sampled places;
* not pair by pair (the clique) but against all that stays: what no linear combination of the kept channels explains
  is what is lost once compensation has done its part (`prunekit.pruning.criteria.elimination`);
* where a product of features reads the channels too (attention, a CCS head), what goes there counts in full: nothing is
  folded into a product, so nothing stands in;
* weighed by the consumers' weights and by the covariance of the loss gradient at their outputs, the Kronecker-factored
  Gauss-Newton of K-FAC (Martens and Grosse 2015), so that prices compare across layers: all are parts of one loss.

The clique on cosines, SIRFP's own form without its scale faults, is the criterion `sirfp-clique`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.progress import counted
from prunekit.pruning.clique import greedy_removal
from prunekit.pruning.coupling import Coupling, Group, is_inside, kernel_overlap
from prunekit.pruning.criteria.elimination import Consumer, eliminate
from prunekit.pruning.evidence import POSITIONS, Evidence, Moments, Ranking, at_places, redundancy, unused
from prunekit.pruning.surgery import weight_rows
from prunekit_runtime.spelling import option

RIDGE = 1e-3


def sirfp_rankings(evidence: Evidence) -> dict[str, Ranking]:
    """Rank units by what the loss loses when the kept ones stand in for them; prices are comparable across groups."""
    return _rankings(evidence, _output_gradients(evidence))


def unweighted_rankings(evidence: Evidence) -> dict[str, Ranking]:
    """Rank the same way without the loss: every output of a consumer counts alike, and so does every consumer.

    The ablation of the gradient, and what remains where there are no labels.
    """
    return _rankings(evidence, None)


def clique_rankings(evidence: Evidence) -> dict[str, Ranking]:
    """Rank units by the greedy clique on absolute cosines (SIRFP, Algorithm 1).

    A price is one minus the mean redundancy with what remained when the unit went.
    """
    rankings: dict[str, Ranking] = {}
    for group in counted(evidence.coupling.free, "Pricing channels, group by group", len(evidence.coupling.free)):
        if not evidence.coupling.runs(group):
            rankings[group.name] = unused(group.width)
            continue
        order_U, degree_U = greedy_removal(redundancy(evidence.statistics, group.name))
        remaining_U = np.maximum(group.width - 1 - np.arange(group.width), 1)
        rankings[group.name] = Ranking(order_U, np.maximum(1 - degree_U / remaining_U, 0.0))
    return rankings


def _rankings(evidence: Evidence, gradients: dict[str, Tensor] | None) -> dict[str, Ranking]:
    return {
        group.name: eliminate(_consumers(evidence, group, gradients), RIDGE)
        if evidence.coupling.runs(group)
        else unused(group.width)
        for group in counted(evidence.coupling.free, "Pricing channels, group by group", len(evidence.coupling.free))
    }


def _consumers(evidence: Evidence, group: Group, gradients: dict[str, Tensor] | None) -> list[Consumer]:
    """Return moments and influence of every layer that reads the group; those that read one tensor become one."""
    found: list[Consumer] = []
    for moments in _read(evidence, group):
        moment_UU = moments.moment_UU / moments.places
        influence_UU = _influence(evidence.network, moments, gradients)
        if gradients is None:
            influence_UU = influence_UU / (influence_UU * moment_UU).sum().clamp_min(1e-30)
        same = next((place for place, one in enumerate(found) if torch.equal(one.moment_UU, moment_UU)), None)
        if same is None:
            found.append(Consumer(moment_UU, influence_UU))
        else:
            found[same] = Consumer(moment_UU, found[same].influence_UU + influence_UU)
    return [*found, *_products(evidence, group, gradients or {})]


def _products(evidence: Evidence, group: Group, gradients: dict[str, Tensor]) -> list[Consumer]:
    """Return what the products of features that read a group add: the second moments without their mixed terms.

    So no channel stands in for another. The gradient is that of a tensor that a layer reads, less what came back
    through that layer. Where several layers read the same tensor it holds the others' too, and counts once for each: an
    upper estimate.
    """
    if not _multiplied(evidence, group):
        return []
    return [
        Consumer(torch.diag(one.moment_UU.diagonal() / one.places), _over_units(one, gradients[_read_by(one.layer)]))
        for one in _read(evidence, group)
        if _read_by(one.layer) in gradients
    ]


def _multiplied(evidence: Evidence, group: Group) -> bool:
    """Tell whether arithmetic without weights of its own costs MACs by the group: a product of features."""

    def has_weights(layer: str) -> bool:
        return any(True for _ in evidence.network.get_submodule(layer).parameters(recurse=False))

    costs = [cost for cost in evidence.coupling.costs if not has_weights(cost.layer)]
    return any(np.isin(labels, group.units).any() for cost in costs for labels in cost.dims)


def _over_units(moments: Moments, covariance_CC: Tensor) -> Tensor:
    """Return a covariance over channels as one over the group's units, summed over the channels of a unit."""
    influence_UU = torch.zeros(2 * moments.moment_UU.shape[:1], dtype=torch.float64)
    for index_U in moments.index_MU:
        has = (index_U >= 0).nonzero().flatten()
        influence_UU[has[:, None], has] += covariance_CC[index_U[has]][:, index_U[has]]
    return influence_UU


def _read_by(layer: str) -> str:
    """Name the tensor that a layer reads, beside the names of layers for what they make."""
    return f"{layer} (input)"


def _read(evidence: Evidence, group: Group) -> list[Moments]:
    """Return where the group is measured; a depthwise layer inside it hands its channels on, so it is no reader."""
    seen = evidence.statistics.seen(group.name)
    return [one for one in seen if not _is_inside(one, evidence.coupling)] or list(seen)


def _is_inside(moments: Moments, coupling: Coupling) -> bool:
    return moments.at == "input" and is_inside(moments.slot, coupling)


def _influence(network: nn.Module, moments: Moments, gradients: dict[str, Tensor] | None) -> Tensor:
    """Return W S W^T over the group's units, summed over the places of the kernel and over the channels of a unit.

    Those are taken as unrelated. Where the group is measured at its producers (only products of features read it), W is
    the identity. A layer without a gradient does not move the loss.
    """
    layer = network.get_submodule(moments.layer)
    covariance_OO = None
    if gradients is not None:
        outputs = _outputs(layer)
        covariance_OO = gradients.get(moments.layer, torch.zeros(outputs, outputs, dtype=torch.float64))
    influence_UU = torch.zeros(2 * moments.moment_UU.shape[:1], dtype=torch.float64)
    for index_U in moments.index_MU:
        has = (index_U >= 0).nonzero().flatten()
        if moments.at == "input":
            part = _through_layer(layer, index_U[has], covariance_OO)
        elif covariance_OO is None:
            part = torch.eye(len(has), dtype=torch.float64)
        else:
            part = covariance_OO[index_U[has]][:, index_U[has]]
        influence_UU[has[:, None], has] += part
    return influence_UU / kernel_overlap(layer) if moments.at == "input" else influence_UU


def _through_layer(layer: nn.Module, index_U: Tensor, covariance_OO: Tensor | None) -> Tensor:
    """Return W S W^T of input channels, one for each unit; those of different groups of a convolution do not meet."""
    rows_IOk, groups = weight_rows(layer), int(getattr(layer, "groups", 1))
    reads, makes = len(rows_IOk) // groups, rows_IOk.shape[1]
    influence_UU = torch.zeros(len(index_U), len(index_U), dtype=torch.float64)
    for block in (index_U // reads).unique().tolist():
        own = (index_U // reads == block).nonzero().flatten()
        outputs = slice(block * makes, (block + 1) * makes)
        for rows_UO in rows_IOk[index_U[own]].unbind(dim=2):
            weighed_UO = rows_UO if covariance_OO is None else rows_UO @ covariance_OO[outputs, outputs]
            influence_UU[own[:, None], own] += weighed_UO @ rows_UO.T
    return influence_UU


def _outputs(layer: nn.Module) -> int:
    return cast(int, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def _output_gradients(evidence: Evidence) -> dict[str, Tensor]:
    """Return, by layer, the covariance of the loss gradient at its outputs: the sum over places, mean over images.

    By `_read_by` of the layer that at its input, of what products of features send back there.

    Raises:
        PruneError: a gradient is not finite.
    """
    groups = [group for group in evidence.coupling.free if evidence.coupling.runs(group)]
    layers = {one.layer for group in groups for one in _read(evidence, group)}
    multiplied = [group for group in groups if _multiplied(evidence, group)]
    beside = {one.layer for group in multiplied for one in _read(evidence, group) if one.at == "input"}
    sums: dict[str, Tensor] = {}
    of_batch: dict[str, Tensor] = {}
    images = 0
    generator = torch.Generator().manual_seed(evidence.seed)
    with _listening(evidence.network, layers, beside, of_batch, generator):
        for batch in evidence.gradients():
            count = len(batch.images_B3HW)
            images += count
            for layer, covariance_OO in of_batch.items():
                # The loss is the mean over the batch, so one image's own gradient is `count` times as large.
                sums[layer] = sums.get(layer, 0) + covariance_OO * count**2
            of_batch.clear()
    for layer, total in sums.items():
        if not total.isfinite().all():
            raise PruneError(
                f"The gradient of the loss is not finite at layer {layer}. Check the weights and the labels, or choose "
                f"{option('criterion', 'sirfp-unweighted')}, which needs no gradient."
            )
    return {layer: total.double().cpu() / images for layer, total in sums.items()}


@contextmanager
def _listening(
    network: nn.Module, layers: set[str], beside: set[str], sums: dict[str, Tensor], generator: torch.Generator
) -> Generator[None]:
    """Add up the sum of g g^T at each layer's outputs while it is open; g belongs to the loss of the batch.

    At the inputs of the layers in `beside` too, without what comes back through the layer itself.
    """

    def listen(layer: str, channel_dim: int) -> torch.utils.hooks.RemovableHandle:
        def add(name: str, gradient: Tensor) -> None:
            covariance = _covariance(gradient, channel_dim, generator)
            sums[name] = sums[name] + covariance if name in sums else covariance

        def called(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                return
            at_output: list[Tensor] = []
            output.register_hook(at_output.append)
            output.register_hook(lambda gradient: add(layer, gradient))
            if layer in beside and args and args[0].requires_grad:
                args[0].register_hook(
                    lambda gradient: add(_read_by(layer), gradient - _sent_back(module, args[0], at_output))
                )

        return network.get_submodule(layer).register_forward_hook(called)

    handles = [
        listen(layer, -1 if isinstance(network.get_submodule(layer), nn.Linear) else 1) for layer in sorted(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sent_back(layer: nn.Module, read: Tensor, at_output: list[Tensor]) -> Tensor:
    """Return the gradient that a layer sends back to what it read, for those at its output; nothing for none."""
    if not at_output:
        return torch.zeros_like(read)
    with torch.enable_grad():
        again = read.detach().requires_grad_()
        return torch.autograd.grad(layer.forward(again), again, at_output[0])[0]


def _covariance(gradient: Tensor, channel_dim: int, generator: torch.Generator) -> Tensor:
    """Estimate the sum over rows and places of g g^T from `POSITIONS` places; windows and tokens may be rows too."""
    g_RON = gradient.detach().movedim(channel_dim, 1).reshape(len(gradient), gradient.shape[channel_dim], -1)
    rows, total = len(g_RON), g_RON.shape[2]
    places = min(total, max(1, POSITIONS // rows))
    if places < total:
        g_RON = at_places(g_RON, torch.randint(total, (places,), generator=generator))
    g_ON = g_RON.transpose(0, 1).flatten(1).float()
    return (g_ON @ g_ON.T) * (total / places)
