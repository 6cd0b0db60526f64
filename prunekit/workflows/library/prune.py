"""`prunekit.prune`: a module and a few batches in, a smaller module out."""

from collections.abc import Iterable
from typing import Any, Literal, overload

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.errors import PruneError
from prunekit.progress import told
from prunekit.pruning.allocation import PolicyName, Target
from prunekit.pruning.criteria import Criterion
from prunekit.pruning.latency import LatencyTable
from prunekit.workflows.library.batches import BATCHES
from prunekit.workflows.library.cut import ModuleT, Request, cut
from prunekit.workflows.library.progress import Progress, told_by
from prunekit.workflows.library.report import ModuleReport
from prunekit.workflows.library.subject import Loss
from prunekit.workflows.pruning.config import DEFAULT_RATIO
from prunekit.workflows.pruning.job import LatencyMeter
from prunekit_runtime.spelling import in_python


@overload
def prune(
    model: ModuleT,
    batches: Iterable[Any],
    ratio: float | None = None,
    *,
    target_macs: float | None = None,
    target_params: float | None = None,
    target_latency_ms: float | None = None,
    criterion: str | Criterion | None = None,
    loss: Loss | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    allocation: PolicyName | None = None,
    align: int = 8,
    ignore_index: int = IGNORE_INDEX,
    max_batches: int = BATCHES,
    seed: int = 0,
    meter: LatencyMeter | None = None,
    table: LatencyTable | None = None,
    progress: bool | Progress = False,
    return_report: Literal[False] = False,
) -> ModuleT: ...


@overload
def prune(
    model: ModuleT,
    batches: Iterable[Any],
    ratio: float | None = None,
    *,
    target_macs: float | None = None,
    target_params: float | None = None,
    target_latency_ms: float | None = None,
    criterion: str | Criterion | None = None,
    loss: Loss | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    allocation: PolicyName | None = None,
    align: int = 8,
    ignore_index: int = IGNORE_INDEX,
    max_batches: int = BATCHES,
    seed: int = 0,
    meter: LatencyMeter | None = None,
    table: LatencyTable | None = None,
    progress: bool | Progress = False,
    return_report: Literal[True],
) -> tuple[ModuleT, ModuleReport]: ...


@in_python()
def prune(
    model: ModuleT,
    batches: Iterable[Any],
    ratio: float | None = None,
    *,
    target_macs: float | None = None,
    target_params: float | None = None,
    target_latency_ms: float | None = None,
    criterion: str | Criterion | None = None,
    loss: Loss | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    allocation: PolicyName | None = None,
    align: int = 8,
    ignore_index: int = IGNORE_INDEX,
    max_batches: int = BATCHES,
    seed: int = 0,
    meter: LatencyMeter | None = None,
    table: LatencyTable | None = None,
    progress: bool | Progress = False,
    return_report: bool = False,
) -> ModuleT | tuple[ModuleT, ModuleReport]:
    """Return a smaller copy of a trained network, chosen as `prunekit prune` chooses; train it on afterwards.

    Channels are ranked on the batches, what the removed ones carried is folded into the layers that read them, the
    cut is proved against the masked network, and the batch norms are measured anew. The copy is of the same classes,
    on the same device, in evaluation mode; `model` stays as it is.

    Args:
        model: any network that torch.export can trace.
        batches: of (images, labels) or of images alone, prepared as for training; a DataLoader, a list, any iterable.
            A network of several inputs takes (input, input, ..., labels). Without labels nothing is weighed by the
            loss.
        ratio: share of the MACs to remove; 0.5 where no target is given.
        target_macs: MACs that remain instead, for the example inputs.
        target_params: parameters that remain instead.
        target_latency_ms: latency that remains instead, by `meter` or `table`.
        criterion: which channels go, a name of `prunekit.CRITERIA` or a criterion of your own; None takes "sirfp", or
            "sirfp-unweighted" where there are no labels.
        loss: of (what the network returns, labels), the mean over the batch; None takes the cross-entropy of classes,
            for labels_BHW and a network that returns logits_BKHW, alone, in a tuple or a dict, or as .logits.
        example_inputs: one example of all that the network reads; None takes the first image of the first batch.
        allocation: how the cut is shared out over the layers; None as the criterion asks.
        align: channel counts are kept multiples of this.
        ignore_index: label of the pixels that do not count.
        max_batches: batches that are looked at, and kept in memory for that.
        seed: of what is sampled or drawn; the global random state is not touched.
        meter: measures latency on this machine: `prunekit.open_meter()`.
        table: of latencies measured earlier, in the place of `meter`.
        progress: True writes a line a step to the standard error stream; or a function of (step, done, total).
        return_report: return (network, report).

    Raises:
        PruneError: the batches do not fit, the network cannot be analysed, the target is out of reach, the criterion
            cannot judge the network, or the cut network is not exact.
        ModelError: the network returns no logits, and no loss was given.
    """
    asked = {"ratio": ratio, "macs": target_macs, "params": target_params, "latency": target_latency_ms}
    request = Request(
        target=_target({kind: value for kind, value in asked.items() if value is not None}),
        criterion=criterion,
        allocation=allocation,
        align=align,
        loss=loss,
        example_inputs=example_inputs,
        ignore_index=ignore_index,
        max_batches=max_batches,
        seed=seed,
        meter=meter,
        table=table,
        tell=told_by(progress),
    )
    with told(request.tell):
        outcome = cut(model, batches, request)
    return (outcome.network, outcome.report) if return_report else outcome.network


def _target(given: dict[str, float]) -> Target:
    if len(given) > 1:
        names = [kind if kind == "ratio" else f"target_{kind}" for kind in given]
        raise PruneError(f"Give one target at a time, got {' and '.join(names)}. Leave all but one out.")
    kind, value = next(iter(given.items()), ("ratio", DEFAULT_RATIO))
    return Target(kind, value)  # pyright: ignore[reportArgumentType]  the keys are kinds
