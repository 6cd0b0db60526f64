from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine, meet_latency, widths_of
from prunekit.pruning.latency.loop import LatencyOutcome, LatencyRound

WIDTH = 400
Keep = Mapping[str, Sequence[int]]


@pytest.fixture(scope="module")
def chain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, 2, 1)).eval()


@pytest.fixture(scope="module")
def coupling(chain: nn.Module) -> Coupling:
    return analyse(chain, (torch.zeros(1, 3, 4, 4),))


def table(rest_ms: float = 1.0) -> LatencyTable:
    """Each of the two layers takes 0.01 ms for each channel between them."""
    rising = (0.01, 0.01 * WIDTH)
    layers = {
        "0": LayerTimes((3,), (1, WIDTH), (rising,)),
        "2": LayerTimes((1, WIDTH), (2,), ((rising[0],), (rising[1],))),
    }
    return LatencyTable(Machine("a", "b", 1, "fp32"), (1, 3, 4, 4), layers, rest_ms)


def chooser(coupling: Coupling, target_ms: float) -> Callable[[LatencyTable], Keep]:
    """Keep as many of the channels as the table allows."""

    def choose(measured: LatencyTable) -> Keep:
        fitting = [kept for kept in range(1, WIDTH + 1) if predicted(measured, kept) <= target_ms]
        if not fitting:
            raise PruneError(f"{target_ms} ms is out of reach.")
        return {group.name: list(range(fitting[-1])) for group in coupling.free}

    return choose


def predicted(measured: LatencyTable, kept: int) -> float:
    return measured.network_ms({"0": (3, kept), "2": (kept, 2)})


def clock(per_channel_ms: float, rest_ms: float) -> Callable[[nn.Module], float]:
    """A machine on which the layers cost otherwise than in the table."""
    return lambda cut: rest_ms + per_channel_ms * widths_of(cut, {"0": None})["0"][1]


def run(
    chain: nn.Module, coupling: Coupling, target_ms: float, measure_ms: Callable[[nn.Module], float], **options: object
) -> LatencyOutcome:
    return meet_latency(
        chain,
        coupling,
        table(),
        target_ms,
        choose=chooser(coupling, target_ms),
        measure_ms=measure_ms,
        **options,  # type: ignore[arg-type]
    )


def test_a_table_that_is_right_needs_one_round(chain: nn.Module, coupling: Coupling) -> None:
    seen: list[LatencyRound] = []
    outcome = run(chain, coupling, 5.0, clock(0.02, 1.0), on_round=seen.append)
    assert outcome.reached
    assert outcome.ended == "the target was met"
    assert outcome.rounds == (outcome.best,) == tuple(seen)
    assert outcome.best.predicted_ms == pytest.approx(outcome.best.measured_ms)
    assert outcome.best.predicted_ms == pytest.approx(5.0, abs=0.02)


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.3, 0.9), slower=st.floats(0.5, 2.0), rest_ms=st.floats(0.0, 2.0))
def test_a_table_that_is_off_is_corrected_by_measuring(
    chain: nn.Module, coupling: Coupling, share: float, slower: float, rest_ms: float
) -> None:
    truth = clock(0.02 * slower, rest_ms)
    target_ms = rest_ms + share * (truth(chain) - rest_ms)
    assume(predicted(table(), 1) <= target_ms <= predicted(table(), WIDTH))  # else the table itself sees no plan
    outcome = run(chain, coupling, target_ms, truth, rounds=8)
    first = outcome.rounds[0]
    assert abs(outcome.best.measured_ms - target_ms) <= abs(first.measured_ms - target_ms)
    assert outcome.reached == (abs(outcome.best.measured_ms / target_ms - 1) <= 0.02)
    assert outcome.reached


def test_the_dense_network_stays_as_it_is(chain: nn.Module, coupling: Coupling) -> None:
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    run(chain, coupling, 4.0, clock(0.03, 1.0))
    after = chain.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_loop_ends_where_a_plan_comes_again(chain: nn.Module, coupling: Coupling) -> None:
    calls: list[float] = []

    def stubborn(_: nn.Module) -> float:
        calls.append(3.0)
        return 3.0

    same = {coupling.free[0].name: list(range(10))}
    outcome = meet_latency(chain, coupling, table(), 1.5, choose=lambda _: same, measure_ms=stubborn)
    assert not outcome.reached
    assert len(calls) == len(outcome.rounds) == 1
    assert "measured before" in outcome.ended


def test_the_number_of_rounds_is_kept(chain: nn.Module, coupling: Coupling) -> None:
    widths = iter(range(50, 90))
    outcome = meet_latency(
        chain,
        coupling,
        table(),
        1.5,
        choose=lambda _: {coupling.free[0].name: list(range(next(widths)))},
        measure_ms=clock(1.0, 0.0),
        rounds=3,
    )
    assert [len(next(iter(row.keep.values()))) for row in outcome.rounds] == [50, 51, 52]
    assert outcome.best is outcome.rounds[0]
    assert "3 networks" in outcome.ended


def test_the_best_round_counts_not_the_last(chain: nn.Module, coupling: Coupling) -> None:
    noise = iter([5.5, 7.0, 8.0])
    outcome = run(chain, coupling, 5.0, lambda _: next(noise), rounds=3)
    assert outcome.best.measured_ms == 5.5
    assert not outcome.reached


def test_a_target_out_of_reach_is_refused_at_once(chain: nn.Module, coupling: Coupling) -> None:
    with pytest.raises(PruneError, match="out of reach"):
        run(chain, coupling, 0.5, clock(0.02, 1.0))


def test_where_only_measuring_shows_that_it_is_out_of_reach_the_outcome_says_so(
    chain: nn.Module, coupling: Coupling
) -> None:
    outcome = run(chain, coupling, 2.0, clock(0.02, 10.0))
    assert not outcome.reached
    assert "out of reach" in outcome.ended
    assert outcome.best.measured_ms > 10.0


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"tolerance": -0.1}, {"target_ms": 0.0}, {"target_ms": float("nan")}]
)
def test_numbers_out_of_range_are_refused(chain: nn.Module, coupling: Coupling, options: dict[str, float]) -> None:
    target_ms = options.pop("target_ms", 5.0)
    with pytest.raises(PruneError, match="latency above 0 ms"):
        run(chain, coupling, target_ms, clock(0.02, 1.0), **options)


def test_a_table_of_another_network_is_refused(coupling: Coupling) -> None:
    other = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    with pytest.raises(PruneError, match="measured with"):
        run(other, coupling, 5.0, clock(0.02, 1.0))
