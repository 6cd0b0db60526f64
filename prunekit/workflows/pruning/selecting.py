"""Which units stay: a criterion's ranking and an allocation, or what a criterion chooses by itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol, cast

import numpy as np
from torch import nn

from prunekit.errors import PruneError, PruneUsageError
from prunekit.pruning.allocation import TOLERANCE, PolicyName, Target, allocate, check_reach, cost_model
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria import Criterion
from prunekit.pruning.evidence import Evidence, Ranking, Rankings
from prunekit.pruning.latency import LatencyTable, meet_latency, widths_of
from prunekit.workflows.pruning.analysing import Analysed, measured_ms
from prunekit.workflows.pruning.config import PruneConfig
from prunekit.workflows.pruning.job import Job, Tell
from prunekit_runtime.spelling import spelled

Keep = dict[str, list[int]]
"""Kept unit positions of each group, sorted."""


@dataclass(frozen=True)
class Selection:
    """What a stage keeps."""

    keep: Keep
    allocation: str
    cost_predicted: float
    """In the target's unit: MACs, parameters or milliseconds."""
    unaligned: Keep | None
    """What would be kept for the same target if channel counts could be any; None where that is not known."""
    measured_ms: float | None = None
    """Latency of the network so cut, where one can be measured."""


@dataclass(frozen=True)
class Goal:
    """What a stage aims at."""

    target: Target
    """For the network as it is now."""
    cost_wanted: float
    reached: bool
    """The stage before went as far already: nothing is left to remove."""


def cost_of(now: Analysed, job: Job) -> float:
    """Return what a network costs as it is, in the target's unit: MACs of one image, parameters or milliseconds."""
    if job.config.target_kind == "latency":
        table = table_of(now)
        return table.network_ms(widths_of(now.network, table.layers))
    return float(now.coupling.params() if job.config.target_kind == "params" else now.coupling.macs())


def table_of(now: Analysed) -> LatencyTable:
    """Return the latency table.

    Raises:
        PruneError: there is none.
    """
    if now.table is None:
        raise PruneUsageError(
            "A target in milliseconds needs a latency table of this network on the machine that it will run on. "
            + spelled(
                "Measure one: prunekit prune --target-latency 8ms", "Pass meter=prunekit.open_meter(), or table=."
            )
        )
    return now.table


def final_target(config: PruneConfig) -> Target:
    """Return the target of the whole pruning, for the source network."""
    return Target(config.target_kind, config.target_value)


def check_target(now: Analysed, job: Job) -> None:
    """Refuse a target in MACs or parameters that the network's coupling rules out, before any data is looked at.

    Raises:
        PruneError: no choice of channels meets it.
    """
    if job.config.target_kind == "latency":
        return
    rules = rules_of(job)
    if rules.policy == "paper":  # has floors, and perhaps steps, of its own
        check_reach(now.coupling, final_target(job.config), 1, floor=0.0)
    else:
        check_reach(now.coupling, final_target(job.config), rules.align)


def check_reachable(now: Analysed, job: Job) -> None:
    """Try the target of the whole pruning on rankings that know nothing, before hours of training.

    Raises:
        PruneError: it is out of reach; names the nearest that is not.
    """
    blind = {
        group.name: Ranking(np.arange(group.width)[::-1], np.linspace(0, 1, group.width)) for group in now.coupling.free
    }
    policy = rules_of(job).policy
    policy = "uniform" if policy == "paper" else policy
    allocate(now.coupling, blind, final_target(job.config), policy=policy, align=job.config.align, table=now.table)


@dataclass(frozen=True)
class Rules:
    """What decides which units stay, whatever the evidence was collected from."""

    criterion: Criterion
    asked: PolicyName | Literal["auto"]
    """How the cut is shared out; "auto": as the criterion wants it."""
    align: int

    @property
    def policy(self) -> PolicyName | Literal["paper"]:
        """How the cut is shared out."""
        return self.criterion.allocation if self.asked == "auto" else self.asked


def rules_of(job: Job) -> Rules:
    """Return the rules that a pruning's settings ask for."""
    return Rules(job.criterion, job.config.allocation, job.config.align)


def goal_of(job: Job, share: float, cost_source: float, cost_now: float) -> Goal:
    """Return the goal of a stage after which `share` of the source's cost is gone."""
    wanted = (1 - share) * cost_source
    if cost_now == cost_source and job.config.target_kind == "ratio":
        return Goal(Target("ratio", share), wanted, reached=False)
    kind = "macs" if job.config.target_kind == "ratio" else job.config.target_kind
    reached = cost_now < cost_source and cost_now - wanted <= TOLERANCE * cost_source
    return Goal(Target(kind, wanted), wanted, reached)


def select(now: Analysed, evidence: Evidence, goal: Goal, job: Job) -> Selection:
    """Rank the units and share the cut out over the groups.

    Raises:
        PruneError: the criterion cannot judge this network, or the target is out of reach.
    """
    if goal.reached:
        whole = {group.name: list(range(group.width)) for group in now.coupling.free}
        return Selection(whole, "none", cost_of(now, job), None)
    choose = chooser(evidence, goal.target, rules_of(job))
    if job.config.target_kind == "latency" and job.meter is not None:
        measure = partial(measured_ms, now.loaded.segmenter, now.input_shape, job.meter)
        return meeting_latency(evidence, choose, table_of(now), goal.cost_wanted, measure, job.tell)
    return choose(now.table)


Choose = Callable[[LatencyTable | None], Selection]
"""Selects by a latency table; where the target is no latency, by none."""


def meeting_latency(
    evidence: Evidence,
    choose: Choose,
    table: LatencyTable,
    target_ms: float,
    measure_ms: Callable[[nn.Module], float],
    tell: Tell,
) -> Selection:
    """Correct the table by the measured network until the target is met, or no better."""

    def measured(network: nn.Module) -> float:
        tell("Measuring the network as cut")
        return measure_ms(network)

    outcome = meet_latency(
        evidence.network,
        evidence.coupling,
        table,
        target_ms,
        choose=lambda table: choose(table).keep,
        measure_ms=measured,
        on_round=lambda row: tell(f"Predicted {row.predicted_ms:.3g} ms, measured {row.measured_ms:.3g} ms"),
    )
    best = outcome.best
    return replace(choose(outcome.table), cost_predicted=best.predicted_ms, measured_ms=best.measured_ms)


def chooser(evidence: Evidence, target: Target, rules: Rules) -> Choose:
    """Rank, once; return what allocates.

    Raises:
        PruneError: the criterion cannot judge this network.
    """
    criterion, policy, align, coupling = rules.criterion, rules.policy, rules.align, evidence.coupling
    if policy == "paper":
        return lambda table: _as_published(criterion, evidence, target, align, table)
    rankings = criterion.rank(evidence)

    def choose(table: LatencyTable | None) -> Selection:
        found = allocate(coupling, rankings, target, policy=policy, align=align, table=table)
        unaligned = _unaligned(coupling, rankings, target, policy, table) if align > 1 else found.keep
        return Selection(found.keep, policy, found.cost_after, unaligned)

    return choose


def _unaligned(
    coupling: Coupling, rankings: Rankings, target: Target, policy: PolicyName, table: LatencyTable | None
) -> Keep | None:
    """Return what the same allocation keeps with channel counts of any size, to compare with."""
    try:
        return allocate(coupling, rankings, target, policy=policy, align=1, table=table).keep
    except PruneError:
        return None  # only compared with; the report says that it is not known


class Chooses(Protocol):
    """A criterion whose `allocation` is "paper"."""

    def keep(self, evidence: Evidence, target: Target, align: int, *, table: LatencyTable | None) -> Keep:
        """Return the kept unit positions of each group that it judges; the others stay whole."""
        ...


def _as_published(
    criterion: Criterion, evidence: Evidence, target: Target, align: int, table: LatencyTable | None
) -> Selection:
    """Let a criterion with an allocation of its own choose."""
    coupling = evidence.coupling
    judged = cast(Chooses, criterion).keep(evidence, target, align, table=table)
    keep = {group.name: judged.get(group.name, list(range(group.width))) for group in coupling.free}
    # An order of removal that ends at what is kept: the cost models ask for one.
    gone = {group.name: sorted(set(range(group.width)) - set(keep[group.name])) for group in coupling.free}
    orders = {name: np.asarray([*units, *keep[name]], dtype=np.int64) for name, units in gone.items()}
    cost = cost_model(coupling, orders, target, table).total({name: len(units) for name, units in keep.items()})
    return Selection(keep, "paper", cost, keep if align == 1 else None)
