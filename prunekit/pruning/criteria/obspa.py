"""OBSPA-style selection (Wang et al. 2024, "Structurally prune anything", arXiv 2403.18955): no data, no fine-tuning.

Optimal brain surgeon, layer by layer: remove the unit whose loss the readers' other weights can make up for best, and
let them make up for it. Only the paper's abstract could be read: formulae are those of optimal brain surgeon (Hassibi
and Stork 1993), everything structural is our reading. What the readers see is measured on Gaussian noise instead of
images: batch norms normalise it by its own statistics, so each channel has the mean and variance that its norm learnt.

The matching update of the weights is `prunekit.pruning.surgery.compensation`, which has the data's moments too.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Group, readers
from prunekit.pruning.criteria.elimination import Consumer, eliminate
from prunekit.pruning.criteria.fpgm import unit_rows
from prunekit.pruning.evidence import Collector, Evidence, Ranking, Statistics, unused

NOISE_BATCHES = 8
# Share of the mean second moment that is added to the diagonal, as in GPTQ (Frantar et al. 2023).
DAMPING = 0.01


def obspa_rankings(evidence: Evidence) -> dict[str, Ranking]:
    """Rank units by the error that stays at their readers once the other units make up for them.

    Raises:
        PruneError: there is no statistics batch, whose size the noise takes.
    """
    statistics = noise_statistics(evidence)
    rankings: dict[str, Ranking] = {}
    for group in evidence.coupling.free:
        if not evidence.coupling.runs(group):
            rankings[group.name] = unused(group.width)
            continue
        moment_UU = _moment(statistics, group)
        rankings[group.name] = eliminate([Consumer(moment_UU, _gram(evidence, group, moment_UU))], DAMPING)
    return rankings


def noise_statistics(evidence: Evidence, batches: int = NOISE_BATCHES) -> Statistics:
    """Return the moments of every group while the network runs over unit Gaussian noise.

    Of the evidence's batches only the size is read. Batch norms use the noise's own statistics and keep their buffers.
    """
    first = next(iter(evidence.batches()), None)
    if first is None:
        raise PruneError("Criterion obspa makes noise of the size of a statistics batch, and there is none. Give one.")
    generator = torch.Generator().manual_seed(evidence.seed)
    with (
        _own_statistics(evidence.network),
        Collector(evidence.network, evidence.coupling, seed=evidence.seed) as collector,
        torch.no_grad(),
    ):
        for _ in range(batches):
            evidence.forward(*(_noise(like, generator) for like in (first.images_B3HW, *first.further)))
        return collector.statistics()


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    shape = (max(2, len(like)), *like.shape[1:])  # 2: one image has no variance behind global pooling
    return torch.randn(shape, generator=generator).to(like)


def _moment(statistics: Statistics, group: Group) -> Tensor:
    """Average the second moments over the readers."""
    return torch.stack([one.moment_UU / one.places for one in statistics.seen(group.name)]).mean(dim=0)


def _gram(evidence: Evidence, group: Group, moment_UU: Tensor) -> Tensor:
    """Sum the inner products of the readers' weights, each reader relative to the energy of its output.

    A group that no layer reads has its own channels made up for: the identity.
    """
    total_UU = torch.zeros_like(moment_UU)
    for slot, weight in readers(group, evidence.coupling, evidence.network):
        rows_UD: Tensor = unit_rows(weight, slot, group)
        gram_UU = (rows_UD @ rows_UD.T).cpu().double()
        total_UU += gram_UU / (gram_UU * moment_UU).sum().clamp_min(1e-30)
    if not total_UU.any():
        total_UU = torch.eye(group.width, dtype=torch.float64)
    return total_UU / (total_UU * moment_UU).sum().clamp_min(1e-30)


@contextmanager
def _own_statistics(network: nn.Module) -> Generator[None]:
    """Evaluation mode, but batch norms normalise by the batch and leave their buffers alone."""
    modes = [(child, child.training) for child in network.modules()]
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]
    tracking = [norm.track_running_stats for norm in norms]
    network.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, tracks in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracks
        for child, training in modes:
            child.training = training
