"""One cut of `prunekit prune` for a network and batches of the caller's own: no run directory, no fine-tuning."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

from torch import nn

from prunekit.errors import PruneError
from prunekit.models.segmenter import Segmenter
from prunekit.progress import Progress, counted
from prunekit.pruning.allocation import PolicyName, Target
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria import Criterion, criterion_named
from prunekit.pruning.evidence import Evidence, Labelled
from prunekit.pruning.latency import LatencyTable
from prunekit.pruning.surgery import Plan, reestimate_norms_
from prunekit.workflows.library.batches import Seen, class_labels, seen
from prunekit.workflows.library.loading import LoadedSegmenter
from prunekit.workflows.library.report import ModuleReport
from prunekit.workflows.library.subject import Loss, Subject, check_plain
from prunekit.workflows.pruning.analysing import measured_ms
from prunekit.workflows.pruning.cutting import (
    MEASURING,
    PROVING,
    check_cuts,
    compensated,
    cut_proved_,
    layer_rows,
    whole_groups,
)
from prunekit.workflows.pruning.job import LatencyMeter
from prunekit.workflows.pruning.judging import statistics_of
from prunekit.workflows.pruning.selecting import Rules, Selection, chooser, meeting_latency

DEFAULT, WITHOUT_LABELS = "sirfp", "sirfp-unweighted"
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a network is to be cut to, and by what."""

    target: Target
    criterion: str | Criterion | None
    allocation: PolicyName | None
    align: int
    loss: Loss | None
    example_inputs: tuple[Any, ...] | None
    ignore_index: int
    max_batches: int
    seed: int
    meter: LatencyMeter | None
    table: LatencyTable | None
    tell: Progress


@dataclass(frozen=True)
class Outcome(Generic[ModuleT]):
    """A cut copy, and what was done to it."""

    network: ModuleT
    report: ModuleReport


def cut(model: ModuleT, batches: Iterable[Any], request: Request) -> Outcome[ModuleT]:
    """Return a cut copy of a trained network: ranked, compensated, proved, its batch norms measured anew.

    Raises:
        PruneError: see `prunekit.prune`.
        ModelError: without a loss of the caller's, the network must return logits.
    """
    check_plain(model)
    _check(request)
    data = seen(batches, len(request.example_inputs or (0,)), request.max_batches)
    judge = _judge(request, labelled=data.labels is not None)
    given = request.example_inputs or tuple(value[:1] for value in data.inputs[0])
    example = Subject(model).example(given)
    request.tell("Analysing which channels belong together", 0, 0)
    coupling = analyse(Subject(model).network, example)
    whole = copy.deepcopy(model).eval()
    subject = Subject(whole)
    evidence = _evidence(subject, coupling, data, given, request)
    rules = Rules(judge, request.allocation or "auto", request.align)
    found = _selected(subject, evidence, rules, tuple(example[0].shape), request)
    check_cuts(found, coupling, request.target, request.align)
    changed = compensated(evidence, found.keep, statistics_of(evidence), judge, "auto")
    request.tell(PROVING, 0, 0)
    plan, error = cut_proved_(evidence, found.keep, example)
    inputs = ((batch.images_B3HW, *batch.further) for batch in data.on(subject.device))
    reestimate_norms_(subject.network, counted(inputs, MEASURING, len(data.inputs)), whole)
    _keep_card(whole.eval(), plan, judge, request.target)
    return Outcome(whole, _report(coupling, found, plan, error, changed, judge, data, request))


def _check(request: Request) -> None:
    if request.align < 1 or request.max_batches < 1:
        raise PruneError(f"align and max_batches are at least 1, got {request.align} and {request.max_batches}.")
    if request.target.kind == "latency" and request.meter is None and request.table is None:
        raise PruneError(
            "A target in milliseconds is measured on the machine that the network will run on. "
            "Give meter=prunekit.open_meter(), or a table that was measured earlier."
        )


def _judge(request: Request, *, labelled: bool) -> Criterion:
    """Return the criterion asked for; without a name, the command's default or what needs no labels.

    Raises:
        PruneError: it needs labels that are not there, or is none.
    """
    asked = request.criterion or (DEFAULT if labelled else WITHOUT_LABELS)
    judge = cast(object, criterion_named(asked) if isinstance(asked, str) else asked)
    if isinstance(judge, type) or not isinstance(judge, Criterion):
        raise PruneError(
            f"criterion= takes a name, such as {DEFAULT!r}, or a Criterion; got {type(judge).__name__}. "
            "prunekit.CRITERIA lists them; prunekit.Scored makes one of your own."
        )
    if request.loss is not None and not labelled:
        raise PruneError(
            "A loss was given, and the batches hold no labels. Give (images, labels); a loss that compares with the "
            "images themselves takes ((images, images) for images in loader)."
        )
    if "gradients" in judge.needs and not labelled:
        raise PruneError(
            f"Criterion {judge.name} follows the loss, which needs labels, and the batches hold images alone. "
            f"Give (images, labels), or leave criterion out: then {WITHOUT_LABELS} is used."
        )
    return judge


def _evidence(subject: Subject, coupling: Coupling, data: Seen, given: tuple[Any, ...], request: Request) -> Evidence:
    """Return what a criterion may look at; labels of classes are checked first."""
    classes, forward = subject.num_classes(given), subject.whole
    if request.loss is not None:
        loss = subject.own_loss(request.loss)
    else:
        loss = subject.class_loss(classes or 0, request.ignore_index)
        if data.labels is not None:
            data, forward = _checked(data, _classes(classes), request.ignore_index), subject.logits(_classes(classes))

    def batches() -> Iterable[Labelled]:
        return counted(data.on(subject.device), "Reading channels on the batches", len(data.inputs))

    return Evidence(
        network=subject.network,
        coupling=coupling,
        batches=batches,
        forward=forward,
        loss=loss,
        num_classes=classes or 0,
        ignore_index=request.ignore_index,
        seed=request.seed,
    )


def _checked(data: Seen, classes: int, ignore_index: int) -> Seen:
    """Return the batches with labels of classes, int64."""
    rows = zip(data.inputs, data.labels or (), strict=True)
    return Seen(data.inputs, tuple(class_labels(inputs, labels, classes, ignore_index) for inputs, labels in rows))


def _classes(found: int | None) -> int:
    if found is None or found < 2:
        got = "no logits (B, classes, H, W)" if found is None else "one channel"
        raise PruneError(
            f"The network returns {got}, so the classes' cross-entropy is not its loss. "
            "Give loss=, a function of (outputs, labels)."
        )
    return found


def _selected(
    subject: Subject, evidence: Evidence, rules: Rules, input_shape: tuple[int, ...], request: Request
) -> Selection:
    """Rank and share out, by a latency table where the target is a latency."""
    target, table, meter = request.target, request.table, request.meter

    def tell(step: str) -> None:
        request.tell(step, 0, 0)

    if target.kind == "latency" and meter is not None:
        segmenter = _measurable(subject, evidence.num_classes, request)
        tell("Measuring how long each layer takes")
        table = meter.table(copy.deepcopy(segmenter).cpu(), input_shape, evidence.coupling)
    choose = chooser(evidence, target, rules)
    if target.kind != "latency" or meter is None or table is None:
        return choose(table)
    measure = partial(measured_ms, subject.segmenter(evidence.num_classes), input_shape, meter)
    return meeting_latency(evidence, choose, table, target.value, measure, tell)


def _measurable(subject: Subject, classes: int, request: Request) -> Segmenter:
    """Return the network as a meter takes it.

    Raises:
        PruneError: it reads more than images, or returns no logits.
    """
    if classes < 2 or len(request.example_inputs or (0,)) > 1:
        raise PruneError(
            "Latency is measured of networks that read images alone and return logits of at least 2 classes. "
            "Give target_macs= or target_params= instead, or a table= that was measured otherwise."
        )
    return subject.segmenter(classes)


def _keep_card(whole: nn.Module, plan: Plan, judge: Criterion, target: Target) -> None:
    """Let a run's network say what it is now."""
    if not isinstance(whole, LoadedSegmenter):
        return
    earlier = whole.card.plan
    together = plan if earlier is None else Plan.from_json(earlier).then(plan)
    step = {"step": "prune", "criterion": judge.name, target.kind: target.value}
    card = whole.card.followed_by(step)
    whole.card = card.model_copy(update={"plan": together.to_json(), "weights_sha256": ""})


def _report(
    coupling: Coupling,
    found: Selection,
    plan: Plan,
    exactness: float,
    changed: tuple[str, ...],
    judge: Criterion,
    data: Seen,
    request: Request,
) -> ModuleReport:
    return ModuleReport(
        criterion=judge.name,
        allocation=found.allocation,
        target=request.target,
        cost_after=found.cost_predicted,
        latency_ms=found.measured_ms,
        batches=len(data.inputs),
        labelled=data.labels is not None,
        plan=plan,
        exactness=exactness,
        macs_before=coupling.macs(),
        macs_after=coupling.macs(found.keep),
        params_before=coupling.params(),
        params_after=coupling.params(found.keep),
        layers=layer_rows(coupling, found.keep),
        whole=whole_groups(coupling),
        compensated=changed,
    )
