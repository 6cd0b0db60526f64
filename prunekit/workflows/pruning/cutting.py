"""The first half of a stage: analyse, select, compensate, cut, prove, write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, Protocol, cast

from torch import Tensor

from prunekit.errors import PruneUsageError
from prunekit.modelfile import LoadedModel, save_model
from prunekit.pruning.allocation import Target, padding_waste
from prunekit.pruning.analysis import verify
from prunekit.pruning.coupling import Coupling, Group, layer_of
from prunekit.pruning.criteria import Criterion, FoldReport
from prunekit.pruning.evidence import Evidence, Statistics, redundancy
from prunekit.pruning.picture import GroupChange
from prunekit.pruning.surgery import Plan, compensate_, make_plan, prune_, reestimate_norms_
from prunekit.run import RunDirectory
from prunekit.workflows.pruning.analysing import Analysed
from prunekit.workflows.pruning.job import Job
from prunekit.workflows.pruning.judging import evidence_of, labelled_batches, statistics_of
from prunekit.workflows.pruning.report import LayerRow, PaddingRow, PruneReport, StageReport
from prunekit.workflows.pruning.selecting import Goal, Keep, Selection, cost_of, final_target, goal_of, select
from prunekit_runtime.spelling import spelled

BLOCKS = (8, 16, 32)
"""Channels that kernels take at once: 8 in fp16 and 16 or 32 in int8 on tensor cores (`allocation.padding`)."""


def choose(now: Analysed, report: PruneReport, job: Job) -> Selection:
    """Choose what the next stage keeps.

    Raises:
        PruneError: the target is out of reach, or the criterion cannot judge this network.
    """
    evidence = evidence_of(now.loaded, now.coupling, job)
    job.tell(f"Choosing channels by {job.config.criterion} on {job.config.batches} batches")
    return select(now, evidence, _goal(now, report, job), job)


def cut_(now: Analysed, report: PruneReport, job: Job, decided: Selection | None = None) -> tuple[Plan, StageReport]:
    """Remove the channels of the next stage from the network, in place.

    Args:
        now: the network as the stage before left it.
        report: of the pruning so far.
        job: the pruning.
        decided: what to keep, where that was chosen earlier.

    Returns:
        the plan for this network, and the stage's report so far.

    Raises:
        PruneError: the target is out of reach, or the cut network is not exact.
    """
    evidence = evidence_of(now.loaded, now.coupling, job)
    goal = _goal(now, report, job)
    job.tell(f"Choosing channels by {job.config.criterion} on {job.config.batches} batches")
    found = decided or select(now, evidence, goal, job)
    if len(report.planned) == 1:
        check_cuts(found, now.coupling, final_target(job.config), job.config.align)
    statistics = statistics_of(evidence)
    changed = compensated(evidence, found.keep, statistics, job.criterion, job.config.compensate)
    job.tell(PROVING)
    plan, error = cut_proved_(evidence, found.keep, (job.example(now.loaded),))
    stage = _described(now.coupling, found, statistics, report, job)
    return plan, replace(
        stage,
        cost_wanted=goal.cost_wanted,
        compensated=changed,
        exactness=error,
        miou_pruned=settled_miou(now.loaded, job, "as cut"),
    )


def check_cuts(found: Selection, coupling: Coupling, target: Target, align: int) -> None:
    """Refuse a target that lies within the tolerance of the network as it is."""
    if not coupling.removed(found.keep).any():
        raise PruneUsageError(
            f"{target.flag} removes no channel: channel counts are kept multiples of {align}, and "
            f"the target is less than one step away. Remove more, or lower {spelled('--align', 'align')}."
        )


MEASURING: Final = "Measuring batch norms again"
PROVING: Final = "Proving that the cut network equals the masked one"


def cut_proved_(evidence: Evidence, keep: Keep, example_inputs: tuple[Tensor, ...]) -> tuple[Plan, float]:
    """Prove the cut on copies, then cut the network in place; return the plan and its exactness.

    Raises:
        PruneError: the cut network is not exact; nothing was cut.
    """
    plan = make_plan(evidence.coupling, keep)
    error = verify(evidence.network.eval(), plan, evidence.coupling, example_inputs)
    prune_(evidence.network, plan)
    return plan, error


def write_cut(
    run: RunDirectory, loaded: LoadedModel, plan: Plan, stage: StageReport, macs_source: int, job: Job
) -> None:
    """Write the network as cut, its plan in positions of the dense network that its factory makes."""
    earlier = loaded.card.plan
    whole = plan if earlier is None else Plan.from_json(earlier).then(plan)
    step = {
        "step": "prune",
        "stage": stage.number,
        "share": stage.share,
        **job.config.model_dump(mode="json", exclude_none=True),
        "realised": 1 - stage.macs_after / macs_source,
    }
    card = loaded.card.followed_by(step).model_copy(update={"plan": whole.to_json()})
    run.clear_leftovers()
    save_model(run, loaded.segmenter.cpu(), card)


def whole_groups(coupling: Coupling) -> tuple[tuple[str, str], ...]:
    """Return what stays whole and why: frozen groups, and parameters that no traced graph uses."""
    groups = [(group.name, group.frozen) for group in coupling.groups if group.frozen is not None]
    return (*groups, *((name, "is used by no graph that could be traced") for name in coupling.unseen))


def parts_of(layer_macs: Mapping[str, int]) -> dict[str, int]:
    """Return MACs by part: the first component of the layers' names, and the second where the first holds over half."""
    total, first = sum(layer_macs.values()), Counter[str]()
    for layer, macs in layer_macs.items():
        first[layer.partition(".")[0]] += macs
    names: dict[str, int] = {}
    for layer, macs in layer_macs.items():
        name = layer.partition(".")[0]
        if 2 * first[name] > total:
            name = ".".join(layer.split(".")[:2])
        names[name] = names.get(name, 0) + macs
    return names


def _goal(now: Analysed, report: PruneReport, job: Job) -> Goal:
    return goal_of(job, report.planned[len(report.stages)], report.cost_before, cost_of(now, job))


class Compensates(Protocol):
    """A criterion with a compensation of its own."""

    def compensate_(self, evidence: Evidence, keep: Keep) -> FoldReport:
        """Change the dense network in place."""
        ...


def compensated(
    evidence: Evidence, keep: Keep, statistics: Statistics, judge: Criterion, how: Literal["auto", "none", "linear"]
) -> tuple[str, ...]:
    """Prepare the dense network for the cut, as asked; return the layers that were changed."""
    if how == "none":
        return ()
    if how == "auto" and hasattr(judge, "compensate_"):
        return cast(Compensates, judge).compensate_(evidence, keep).folded
    return compensate_(evidence.network, evidence.coupling, keep, statistics)


def settled_miou(loaded: LoadedModel, job: Job, which: str) -> float | None:
    """Re-estimate the batch norms of a network, in place, if that is asked for, and evaluate it."""
    if job.config.bn_batches:
        job.tell(MEASURING)
        batches = labelled_batches(loaded, job, job.config.bn_batches, MEASURING)
        reestimate_norms_(loaded.segmenter.network, (batch.images_B3HW for batch in batches), loaded.segmenter)
    job.tell(f"Evaluating the network {which}")
    return job.miou(loaded.segmenter, loaded)


def _described(
    coupling: Coupling, found: Selection, statistics: Statistics, report: PruneReport, job: Job
) -> StageReport:
    """Return what follows from the selection alone."""
    number = len(report.stages) + 1
    return StageReport(
        number=number,
        share=report.planned[number - 1],
        allocation=found.allocation,
        cost_wanted=0.0,
        cost_predicted=found.cost_predicted,
        latency_measured_ms=found.measured_ms,
        macs_after=coupling.macs(found.keep),
        params_after=coupling.params(found.keep),
        groups=tuple(_group(group, found.keep, statistics) for group in coupling.free),
        layers=layer_rows(coupling, found.keep),
        parts=_by_part(coupling.layer_macs(found.keep), tuple(report.parts_before)),
        padding=_padding(coupling, found),
        compensated=(),
        exactness=0.0,
        miou_pruned=None,
        epochs=job.stage_epochs(number),
    )


def _group(group: Group, keep: Keep, statistics: Statistics) -> GroupChange:
    kept = keep.get(group.name, list(range(group.width)))
    if group.name not in statistics.groups:
        return GroupChange(group.name, group.width, len(kept), None, None)
    cosine_UU = redundancy(statistics, group.name)
    return GroupChange(group.name, group.width, len(kept), _mean(cosine_UU), _mean(cosine_UU[kept][:, kept]))


def _mean(cosine_UU: Tensor) -> float | None:
    """Return the mean over pairs of different units; the diagonal is zero."""
    pairs = len(cosine_UU) * (len(cosine_UU) - 1)
    return float(cosine_UU.sum()) / pairs if pairs else None


def layer_rows(coupling: Coupling, keep: Keep) -> tuple[LayerRow, ...]:
    """Return a row for every layer that makes channels, in the order of execution."""
    removed = coupling.removed(keep)
    macs_before, macs_after = coupling.layer_macs(), coupling.layer_macs(keep)
    rows: dict[str, LayerRow] = {}
    for slot in coupling.slots:
        name = layer_of(slot.parameter)
        if slot.role == "out" and name not in rows and name in macs_before:
            left = int((~removed[slot.labels]).sum())
            rows[name] = LayerRow(name, len(slot.labels), left, macs_before[name], macs_after[name])
    return tuple(rows.values())


def _by_part(layer_macs: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """Return MACs by the parts of the source; a layer belongs to the part that its name begins with."""
    totals = dict.fromkeys(names, 0)
    for layer, macs in layer_macs.items():
        name = next((name for name in names if layer == name or layer.startswith(f"{name}.")), layer)
        totals[name] = totals.get(name, 0) + macs
    return totals


def _padding(coupling: Coupling, found: Selection) -> tuple[PaddingRow, ...]:
    return tuple(
        PaddingRow(
            block,
            padding_waste(coupling, found.keep, block).wasted,
            None if found.unaligned is None else padding_waste(coupling, found.unaligned, block).wasted,
        )
        for block in BLOCKS
    )
