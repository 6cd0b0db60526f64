"""A latency target met by measuring: plan, cut, measure the whole network, correct the table, plan again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency.table import LatencyTable, widths_of
from prunekit.pruning.surgery import make_plan, pruned

Keep = Mapping[str, Sequence[int]]
TOLERANCE = 0.02
"""Share of the target by which the measured latency may miss it."""


@dataclass(frozen=True)
class LatencyRound:
    """One plan of the loop: what the table said, and what the clock said."""

    keep: Keep
    predicted_ms: float
    measured_ms: float


@dataclass(frozen=True)
class LatencyOutcome:
    """The best plan of a loop and how it was found."""

    target_ms: float
    rounds: tuple[LatencyRound, ...]
    best: LatencyRound
    """The round that was measured nearest to the target."""
    reached: bool
    """Whether `best` is within the tolerance."""
    ended: str
    """Why there is no further round, in words."""
    table: LatencyTable
    """The table of the best round's plan."""


def meet_latency(
    network: nn.Module,
    coupling: Coupling,
    table: LatencyTable,
    target_ms: float,
    *,
    choose: Callable[[LatencyTable], Keep],
    measure_ms: Callable[[nn.Module], float],
    tolerance: float = TOLERANCE,
    rounds: int = 5,
    on_round: Callable[[LatencyRound], None] | None = None,
) -> LatencyOutcome:
    """Plan, cut a copy, measure it and scale the table by measured over predicted, until the target is met.

    The scale corrects at the width that matters what a sum over layers leaves out: the rest, which shrinks with the
    channels, and how layers meet in the cache. The loop ends early where the same plan comes again.

    Args:
        network: the dense network that `coupling` analysed; stays as it is.
        coupling: its analysis.
        table: measured for it on this machine.
        target_ms: latency wanted.
        choose: the kept units of each group for `target_ms` by the given table, `allocate(...)` in short.
        measure_ms: the latency of a cut network, on the machine of the table.
        tolerance: share of the target that is near enough.
        rounds: networks measured at most.
        on_round: told of each round.

    Raises:
        PruneError: a number is out of range, the table is of another network, or `choose` cannot reach the target.
    """
    if not target_ms > 0 or tolerance < 0 or rounds < 1:
        raise PruneError(
            f"A latency target needs a latency above 0 ms, a tolerance from 0 on and at least 1 round; "
            f"got {target_ms}, {tolerance} and {rounds}."
        )
    table.check_network(network)
    done: list[tuple[LatencyRound, LatencyTable]] = []
    ended = f"{rounds} networks were measured"
    while len(done) < rounds:
        keep = _chosen(choose, table, first=not done)
        if isinstance(keep, str) or any(_same(keep, row.keep) for row, _ in done):
            ended = keep if isinstance(keep, str) else "the corrected table leads to a plan that was measured before"
            break
        row = _round(network, coupling, table, keep, measure_ms)
        done.append((row, table))
        if on_round is not None:
            on_round(row)
        if _miss(row, target_ms) <= tolerance:
            ended = "the target was met"
            break
        table = table.scaled(row.measured_ms / row.predicted_ms)
    best, best_table = min(done, key=lambda pair: _miss(pair[0], target_ms))
    history = tuple(row for row, _ in done)
    return LatencyOutcome(target_ms, history, best, _miss(best, target_ms) <= tolerance, ended, best_table)


def _chosen(choose: Callable[[LatencyTable], Keep], table: LatencyTable, *, first: bool) -> Keep | str:
    """Return a plan; where only the corrected table finds none, why not: the plans measured so far are the answer."""
    try:
        return choose(table)
    except PruneError as error:
        if first:
            raise
        return str(error)


def _round(
    network: nn.Module,
    coupling: Coupling,
    table: LatencyTable,
    keep: Keep,
    measure_ms: Callable[[nn.Module], float],
) -> LatencyRound:
    cut = pruned(network, make_plan(coupling, keep))
    return LatencyRound(keep, table.network_ms(widths_of(cut, table.layers)), measure_ms(cut))


def _miss(row: LatencyRound, target_ms: float) -> float:
    return abs(row.measured_ms - target_ms) / target_ms


def _same(keep: Keep, other: Keep) -> bool:
    return {name: list(kept) for name, kept in keep.items()} == {name: list(kept) for name, kept in other.items()}
