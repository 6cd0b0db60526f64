"""The former name of `prunekit.prune`: the network and what was found, in one object."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.errors import PruneError
from prunekit.pruning.plan import Plan
from prunekit.workflows.library.prune import prune


@dataclass(frozen=True)
class PrunedModule:
    """A cut network, and what was done to it."""

    network: nn.Module
    plan: Plan
    exactness: float
    macs_before: int
    macs_after: int


def prune_module(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    ratio: float = 0.5,
    *,
    criterion_name: str = "sirfp",
    align: int = 8,
    ignore_index: int = IGNORE_INDEX,
    seed: int = 0,
) -> PrunedModule:
    """Prune by `prunekit.prune`, which finds the number of classes itself.

    Raises:
        PruneError: as there.
    """
    if num_classes < 2:
        raise PruneError(f"num_classes must be at least 2, got {num_classes}. Leave it to prunekit.prune.")
    small, report = prune(
        network,
        batches,
        ratio,
        criterion=criterion_name,
        align=align,
        ignore_index=ignore_index,
        seed=seed,
        return_report=True,
    )
    return PrunedModule(small, report.plan, report.exactness, report.macs_before, report.macs_after)
