"""Bias compensation: what removed channels gave their consumers on average goes into biases and running means.

Run on the dense network before the cut, so that the cut one still equals the masked one.

Shapes: S positions of one weight dimension, C channels of one batch norm, O outputs of a consumer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.pruning.arrays import FloatArray, IntArray
from prunekit.pruning.coupling import Coupling, Group, Slot
from prunekit.pruning.criteria.sirfp_paper.members import BATCH_NORMS, Carriers, norm_name
from prunekit.pruning.evidence import Statistics

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONSUMERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)


class Means(Protocol):
    """What a consumer sees of a channel on average."""

    def __call__(self, group: Group, slot: Slot) -> FloatArray:
        """Return [S] for the positions of a consumer's slot; what is no channel of the group may hold anything."""
        ...


class ReluBeta:
    """relu(beta), beta the sum of the shifts of all members of the group.

    As published, for every consumer of a residual stream the sum over the whole stream, early blocks included, and
    without the variance (sirfp.md 1.2 g, a reading of the official code). It presumes a ReLU before the consumer.
    """

    def __init__(self, network: nn.Module, coupling: Coupling) -> None:
        self._network, self._carriers = network, Carriers.of(network, coupling)

    def __call__(self, group: Group, slot: Slot) -> FloatArray:
        """Return [S]."""
        return np.maximum(self._sum(group, slot, _shift), 0.0)

    def _sum(self, group: Group, slot: Slot, value: Callable[[nn.Module], FloatArray]) -> FloatArray:
        total_S = np.zeros(len(slot.labels))
        for norm in self._carriers.slots[group.name]:
            total_S += aligned(value(self._network.get_submodule(norm_name(norm))), norm.labels, slot.labels)
        return total_S


class GaussianRelu(ReluBeta):
    """E[relu(x)] for a normal x of mean beta and variance gamma^2: beta Phi(beta / gamma) + gamma phi(beta / gamma).

    To be put in place of `ReluBeta`, which is its limit for gamma = 0; batch norms' outputs have just that mean and
    variance. Members of a residual stream add up as if independent (our reading). Source: sirfp.md 1.5.
    """

    def __call__(self, group: Group, slot: Slot) -> FloatArray:
        """Return [S]."""
        beta_S = torch.from_numpy(self._sum(group, slot, _shift))
        gamma_S = torch.from_numpy(self._sum(group, slot, _variance)).sqrt()
        z_S = beta_S / gamma_S.clamp_min(1e-12)  # at gamma = 0 the limit, relu(beta)
        normal = torch.distributions.Normal(0.0, 1.0)
        mean_S = beta_S * normal.cdf(z_S) + gamma_S * normal.log_prob(z_S).exp()
        return mean_S.numpy()


class MeasuredMeans:
    """The means that were measured at the consumers' inputs: right for every activation, sum and pooling.

    To be put in place of `ReluBeta`. A consumer that was not seen counts as one that sees nothing.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def __call__(self, group: Group, slot: Slot) -> FloatArray:
        """Return [S]."""
        result_S = np.zeros(len(slot.labels))
        for moments in self._statistics.groups.get(group.name, ()):
            if moments.at == "input" and moments.slot is slot:
                for index_U in moments.index_MU.numpy():
                    has = (index_U >= 0) & (index_U < len(result_S))  # a grouped weight names one group's channels
                    result_S[index_U[has]] = (moments.sum_U / moments.places).numpy()[has]
        return result_S


def _shift(norm: nn.Module) -> FloatArray:
    return _values(norm, "bias", 0.0)


def _variance(norm: nn.Module) -> FloatArray:
    return _values(norm, "weight", 1.0) ** 2


def _values(norm: nn.Module, name: str, default: float) -> FloatArray:
    """Return a parameter of a batch norm; one without scale and shift has 1 and 0."""
    value = cast(Tensor | None, getattr(norm, name))
    if value is None:
        return np.full(cast(int, norm.num_features), default)
    return value.detach().double().cpu().numpy()


def aligned(value_C: FloatArray, labels_C: IntArray, labels_S: IntArray) -> FloatArray:
    """Return the values at channels `labels_C` for positions `labels_S`; 0 where there is no such channel.

    A label that stands in several positions on both sides is matched in their order; where the numbers differ, its
    positions get the mean of its channels.
    """
    order = np.argsort(labels_C, kind="stable")
    first_S = np.searchsorted(labels_C[order], labels_S, side="left")
    count_S = np.searchsorted(labels_C[order], labels_S, side="right") - first_S
    sums = np.concatenate([[0.0], np.cumsum(value_C[order])])
    mean_S = (sums[first_S + count_S] - sums[first_S]) / np.maximum(count_S, 1)
    matched_S = (count_S > 1) & (count_S == _multiplicity(labels_S))
    chosen_S = np.minimum(first_S + _occurrence(labels_S), len(order) - 1)
    return np.where(matched_S, value_C[order][chosen_S], mean_S)


def _multiplicity(labels_S: IntArray) -> IntArray:
    _, inverse, counts = np.unique(labels_S, return_inverse=True, return_counts=True)
    return counts[inverse]


def _occurrence(labels_S: IntArray) -> IntArray:
    """Return for each position how many earlier ones have the same label."""
    order = np.argsort(labels_S, kind="stable")
    ordered = labels_S[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    result = np.empty(len(labels_S), dtype=np.int64)
    result[order] = np.arange(len(labels_S)) - starts
    return result


@dataclass(frozen=True)
class FoldReport:
    """Which consumers were compensated."""

    folded: tuple[str, ...]
    skipped: tuple[str, ...]
    """Consumers that lost channels but have neither a bias nor a batch norm right behind them, or have groups."""


def fold_means_(
    network: nn.Module,
    coupling: Coupling,
    keep: Mapping[str, Sequence[int]],
    means: Means,
    forward: Callable[[], object],
) -> FoldReport:
    """Compensate every consumer of removed channels in the dense `network`, in place; then cut it.

    The sum over the kernel of W times the mean goes into the bias, or out of the running mean of the batch norm that
    directly follows (sirfp.md 1.2 g). Borders are ignored: padding is taken as if it held the mean. With a transposed
    convolution an output meets the kernel's sum divided by the stride's product (our reading).

    Args:
        network: the dense network; on an error it may be changed in part.
        coupling: its analysis.
        keep: kept unit positions per group, as for `make_plan`.
        means: what consumers see on average.
        forward: runs the network once on anything, to see which batch norm follows which layer.
    """
    removed = coupling.removed(keep)
    followers = _followers(network, forward)
    tensors = dict(network.named_parameters(remove_duplicate=False))
    folded: list[str] = []
    skipped: list[str] = []
    for slot in (slot for slot in coupling.slots if slot.role == "in" and removed[slot.labels].any()):
        offset_S = _offsets(coupling, slot, removed, means)
        for name, layer in _owners(network, tensors.get(slot.parameter)):
            done = _fold(layer, slot.dim, offset_S, followers.get(name))
            (folded if done else skipped).append(name)
    return FoldReport(tuple(dict.fromkeys(folded)), tuple(dict.fromkeys(skipped)))


def _offsets(coupling: Coupling, slot: Slot, removed: np.ndarray, means: Means) -> FloatArray:
    """Return the mean of what goes at each position, 0 at those that stay."""
    offset_S = np.zeros(len(slot.labels))
    for group in coupling.free:
        own_S = np.isin(slot.labels, group.units) & removed[slot.labels]
        if own_S.any():
            offset_S[own_S] = means(group, slot)[own_S]
    return offset_S


def _owners(network: nn.Module, tensor: Tensor | None) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers whose weight a tensor is; several where weights are tied."""
    for name, module in network.named_modules():
        if tensor is not None and isinstance(module, _CONSUMERS) and module.weight is tensor:
            yield name, module


def _fold(layer: nn.Module, dim: int, offset_S: FloatArray, norm: nn.Module | None) -> bool:
    """Fold one consumer; tell whether there was a place to fold into."""
    assert isinstance(layer, _CONSUMERS)
    mean = cast(Tensor | None, getattr(norm, "running_mean", None))
    target = layer.bias if layer.bias is not None else mean
    if target is None or getattr(layer, "groups", 1) != 1 or layer.weight.shape[dim] != len(offset_S):
        return False
    with torch.no_grad():
        rows_SO = layer.weight.movedim(dim, 0).flatten(2).sum(dim=2) if layer.weight.dim() > 2 else layer.weight.T
        shift_O = torch.from_numpy(offset_S).to(rows_SO.device) @ rows_SO.double()
        if isinstance(layer, _TRANSPOSED):
            shift_O /= int(np.prod(layer.stride))
        target.add_(shift_O if target is layer.bias else -shift_O)
    return True


@dataclass
class _Adjacency:
    followers: dict[str, nn.Module] = field(default_factory=dict)
    last: tuple[str, Tensor] | None = None


def _followers(network: nn.Module, forward: Callable[[], object]) -> dict[str, nn.Module]:
    """Return the batch norm that reads each layer's output right behind it, by the layer's name."""
    found = _Adjacency()
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in network.named_modules():
        if isinstance(module, _CONSUMERS):
            handles.append(module.register_forward_hook(_remember(found, name)))
        elif isinstance(module, BATCH_NORMS):
            handles.append(module.register_forward_pre_hook(_recognise(found, module)))
    modes = [(child, child.training) for child in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
        for child, training in modes:
            child.training = training
    return found.followers


def _remember(found: _Adjacency, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def after(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        del args
        found.last = (name, output)

    return after


def _recognise(found: _Adjacency, norm: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if found.last is not None and args and args[0] is found.last[1]:
            found.followers[found.last[0]] = norm

    return before
