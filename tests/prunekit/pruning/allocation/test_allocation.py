"""Targets are met or refused with one that is met; each policy keeps what it promises to keep."""

import itertools
import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import Coupling, analyse
from prunekit.pruning.allocation import POLICIES, Allocation, Target, allocate, cost_model, uniform_keep
from prunekit.pruning.allocation.ranked import isotonic
from prunekit.pruning.evidence import Ranking, Rankings, by_score


class Residual(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, inner, 3, padding=1), nn.Conv2d(inner, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.b(torch.relu(self.a(x))))


@cache
def coupling_of(widths: tuple[int, ...], inner: int) -> Coupling:
    """A chain of convolutions with a residual block behind the first."""
    chain = [nn.Conv2d(c, out, 3, padding=1) for c, out in itertools.pairwise((3, *widths))]
    network = nn.Sequential(chain[0], Residual(widths[0], inner), *chain[1:], nn.Conv2d(widths[-1], 4, 1)).eval()
    return analyse(network, (torch.randn(1, 3, 8, 8),))


def small() -> Coupling:
    return coupling_of((16, 24, 12), 20)


def large() -> Coupling:
    return coupling_of((48, 64, 40, 96, 56), 80)


def drawn_rankings(coupling: Coupling, seed: int) -> dict[str, Ranking]:
    """Prices fall and rise along the order, as those of a greedy removal do; groups differ by magnitudes."""
    rng = np.random.default_rng(seed)
    return {
        group.name: Ranking(rng.permutation(group.width), rng.gamma(2.0, 10.0 ** rng.normal(0, 0.7), group.width))
        for group in coupling.free
    }


def gone(rankings: Rankings, widths: dict[str, int]) -> float:
    return sum(
        float(ranking.price_U[: len(ranking.price_U) - widths[name]].sum()) for name, ranking in rankings.items()
    )


def rungs(width: int, align: int, floor: float) -> list[int]:
    least = min(width, math.ceil(max(1, math.ceil(floor * width)) / align) * align)
    return sorted({*range(least, width + 1, align), width})


def every_allocation(coupling: Coupling, align: int) -> list[dict[str, int]]:
    options = [rungs(group.width, align, 0.02) for group in coupling.free]
    names = [group.name for group in coupling.free]
    return [dict(zip(names, widths, strict=True)) for widths in itertools.product(*options)]


policies = st.sampled_from(list(POLICIES))
seeds = st.integers(0, 2**31)


@settings(max_examples=60, deadline=None)
@given(policies, st.sampled_from(["ratio", "macs", "params"]), st.floats(0.02, 0.98), st.sampled_from([1, 4, 8]), seeds)
def test_a_target_is_met_on_the_grid_or_refused(policy: str, kind: str, share: float, align: int, seed: int) -> None:
    coupling = large()
    rankings = drawn_rankings(coupling, seed)
    dense = coupling.params() if kind == "params" else coupling.macs()
    target = Target(kind, share if kind == "ratio" else (1 - share) * dense)
    try:
        found = allocate(coupling, rankings, target, policy=policy, align=align)
    except PruneError as error:
        found = follow_the_advice(str(error), coupling, rankings, policy, align)
    count = coupling.params if kind == "params" else coupling.macs
    assert found.cost_after == count(found.keep)
    assert found.cost_before == dense
    assert abs(found.cost_after - found.target.wanted(dense)) <= 0.005 * dense
    for group in coupling.free:
        kept = found.keep[group.name]
        assert kept == rankings[group.name].kept(len(kept))
        assert len(kept) == found.widths[group.name]
        assert len(kept) in rungs(group.width, align, 0.02)


def follow_the_advice(message: str, coupling: Coupling, rankings: Rankings, policy: str, align: int) -> Allocation:
    written = re.search(r"Ask for --(?:target-)?(ratio|macs|params|latency) (\d+(?:\.\d+)?)", message)
    assert written, message
    target = Target(written[1], float(written[2]))  # type: ignore[arg-type]
    return allocate(coupling, rankings, target, policy=policy, align=align)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(policies, st.floats(0.02, 0.95), seeds)
def test_what_a_small_network_is_refused_is_out_of_reach(policy: str, ratio: float, seed: int) -> None:
    coupling = small()
    rankings = drawn_rankings(coupling, seed)
    cost = cost_model(coupling, {name: ranking.order_U for name, ranking in rankings.items()}, Target("ratio", ratio))
    nearest = min(abs(cost.total(widths) - (1 - ratio) * coupling.macs()) for widths in every_allocation(coupling, 4))
    try:
        allocate(coupling, rankings, Target("ratio", ratio), policy=policy, align=4)
    except PruneError:
        assert nearest > 0.005 * coupling.macs()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 0.8), seeds)
def test_the_cost_policy_is_optimal_where_all_can_be_tried(ratio: float, seed: int) -> None:
    coupling = small()
    rankings = drawn_rankings(coupling, seed)
    cost = cost_model(coupling, {name: ranking.order_U for name, ranking in rankings.items()}, Target("ratio", ratio))
    wanted, slack = (1 - ratio) * coupling.macs(), 0.005 * coupling.macs()
    prices = [
        gone(rankings, widths)
        for widths in every_allocation(coupling, 4)
        if -slack <= cost.total(widths) - wanted <= 0.2 * slack
    ]
    if prices:
        found = allocate(coupling, rankings, Target("ratio", ratio), policy="cost", align=4)
        assert gone(rankings, found.widths) == pytest.approx(min(prices))


def unevenness(coupling: Coupling, widths: dict[str, int]) -> float:
    """What the balanced policy minimises: rising prices of the MACs that a first unit saves, by the analysis alone."""
    total = 0.0
    for group in coupling.free:
        saved = coupling.macs() - coupling.macs({group.name: list(range(group.width - 1))})
        removed = group.width - widths[group.name]
        total += saved * removed * (removed + 1) / 2 / group.width
    return total


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["macs", "latency"]), st.integers(0, 2**31), seeds)
def test_the_balanced_policy_is_the_evenest_where_all_can_be_tried(kind: str, drawn: int, seed: int) -> None:
    coupling, every = small(), every_allocation(small(), 4)
    rankings, table = drawn_rankings(coupling, seed), Staircase(coupling)
    orders = {name: ranking.order_U for name, ranking in rankings.items()}
    cost = cost_model(coupling, orders, Target(kind, 1.0), table)
    target = Target(kind, cost.total(every[drawn % len(every)]))  # of some widths, so that it can be met
    slack = 0.005 * cost.total({})
    reachable = [
        unevenness(coupling, widths) for widths in every if -slack <= cost.total(widths) - target.value <= 0.2 * slack
    ]
    found = allocate(coupling, rankings, target, policy="balanced", align=4, table=table)
    assert unevenness(coupling, found.widths) == pytest.approx(min(reachable))


def test_by_macs_the_balanced_policy_takes_nearly_equal_shares() -> None:
    coupling = large()
    found = allocate(coupling, drawn_rankings(coupling, 0), Target("ratio", 0.5), policy="balanced", align=1)
    shares = [found.widths[group.name] / group.width for group in coupling.free]
    assert max(shares) - min(shares) <= 0.1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([1, 4]), st.sampled_from(["macs", "params"]), seeds)
def test_the_cost_policy_gives_away_least_of_all_policies(ratio: float, align: int, kind: str, seed: int) -> None:
    coupling = large()
    rankings = drawn_rankings(coupling, seed)
    target = Target(kind, (1 - ratio) * (coupling.params() if kind == "params" else coupling.macs()))
    found = {policy: allocate(coupling, rankings, target, policy=policy, align=align) for policy in POLICIES}
    # Whoever may spend more gives away less: compared are those that spend no more than "cost" may.
    most = target.value + 0.001 * found["cost"].cost_before
    prices = {name: gone(rankings, each.widths) for name, each in found.items() if each.cost_after <= most}
    assert prices["cost"] <= min(prices.values()) * (1 + 1e-9), prices


def test_no_exchange_of_two_steps_improves_what_the_cost_policy_found() -> None:
    coupling = large()
    rankings = drawn_rankings(coupling, 3)
    orders = {name: ranking.order_U for name, ranking in rankings.items()}
    found = allocate(coupling, rankings, Target("ratio", 0.6), policy="cost", align=4)
    cost, wanted = cost_model(coupling, orders, found.target), 0.4 * coupling.macs()
    for wider, narrower in itertools.permutations(coupling.free, 2):
        changed = {**found.widths}
        changed[wider.name] = min(wider.width, changed[wider.name] // 4 * 4 + 4)
        changed[narrower.name] = max(4, (changed[narrower.name] - 1) // 4 * 4)
        if -0.005 * coupling.macs() <= cost.total(changed) - wanted <= 0.001 * coupling.macs():
            assert gone(rankings, changed) >= gone(rankings, found.widths) - 1e-9


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.3, 0.5, 0.7]), seeds)
def test_global_is_one_threshold_on_the_price(ratio: float, seed: int) -> None:
    coupling = large()
    rng = np.random.default_rng(seed)
    rankings = {group.name: by_score(rng.gamma(2.0, rng.uniform(0.5, 2), group.width)) for group in coupling.free}
    widths = allocate(coupling, rankings, Target("ratio", ratio), policy="global", align=1).widths
    # Two steps of single groups at most follow the threshold; a group at its floor would have gone on.
    last_gone, next_kept = [], []
    for group in coupling.free:
        price_U, width = rankings[group.name].price_U, widths[group.name]
        gone = group.width - width
        last_gone.append(price_U[gone - 2] if gone >= 2 else 0.0)  # the one unit that is gone may have followed
        next_kept.append(np.inf if width == math.ceil(0.02 * group.width) else price_U[min(gone, group.width - 2) + 1])
    assert max(last_gone) <= min(next_kept)


def test_equal_prices_take_equal_shares() -> None:
    coupling = large()
    rankings = {group.name: by_score(np.ones(group.width)) for group in coupling.free}
    widths = allocate(coupling, rankings, Target("ratio", 0.5), policy="global", align=1).widths
    shares = [widths[group.name] / group.width for group in coupling.free]
    assert max(shares) - min(shares) <= 2.5 / 40  # a step or two of the narrowest group


@pytest.mark.parametrize("policy", ["global", "cost"])
def test_the_unit_of_the_prices_does_not_matter(policy: str) -> None:
    coupling = large()
    rankings = drawn_rankings(coupling, 5)
    scaled = {name: Ranking(ranking.order_U, 8 * ranking.price_U) for name, ranking in rankings.items()}
    first, second = (allocate(coupling, each, Target("ratio", 0.5), policy=policy) for each in (rankings, scaled))
    assert first.keep == second.keep


@pytest.mark.parametrize("policy", ["uniform", "balanced"])
def test_even_shares_know_no_prices(policy: str) -> None:
    coupling = large()
    rankings, target = drawn_rankings(coupling, 0), Target("ratio", 0.5)
    priceless = {
        name: Ranking(ranking.order_U, np.full(len(ranking.order_U), np.nan)) for name, ranking in rankings.items()
    }
    assert (
        allocate(coupling, priceless, target, policy=policy, align=4).keep
        == allocate(coupling, rankings, target, policy=policy, align=4).keep
    )


@pytest.mark.parametrize("align", [1, 4])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_uniform_keeps_the_same_share_of_every_group(align: int, ratio: float) -> None:
    coupling = large()
    found = allocate(coupling, drawn_rankings(coupling, 0), Target("ratio", ratio), policy="uniform", align=align)
    shares = [found.widths[group.name] / group.width for group in coupling.free]
    assert max(shares) - min(shares) <= 2.5 * align / 40  # 40 units: the narrowest group


def test_nothing_is_removed_for_a_ratio_of_0() -> None:
    for policy in POLICIES:
        found = allocate(large(), drawn_rankings(large(), 0), Target("ratio", 0.0), policy=policy)
        assert found.widths == {group.name: group.width for group in large().free}
        assert found.cost_after == found.cost_before


class Gated(nn.Module):
    """The convolution makes two channels of each unit, what follows reads one; a shuffle makes one of four."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(64, 128, 3, padding=1)
        self.c, self.d = nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.a(x).chunk(2, dim=1)
        return self.d(self.c(nn.functional.pixel_shuffle(self.b(left * torch.sigmoid(right)), 2)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("align", [4, 8])
def test_layers_read_and_make_multiples_where_units_have_several_channels(policy: str, align: int) -> None:
    coupling = analyse(Gated().eval(), (torch.randn(1, 3, 8, 8),))
    found = allocate(coupling, drawn_rankings(coupling, 0), Target("ratio", 0.5), policy=policy, align=align)
    removed = coupling.removed(found.keep)
    assert removed.any()
    for slot in coupling.slots:
        left = int((~removed[slot.labels]).sum())
        assert left % align == 0 or left == len(slot.labels), slot


class Staircase:
    """Time by blocks of eight channels, three times as much for inputs that are no multiple of four."""

    rest_ms = 0.1

    def __init__(self, coupling: Coupling) -> None:
        shapes = {name.removesuffix(".weight"): shape for name, shape in coupling.shapes.items() if len(shape) == 4}
        self.layers = {name: Measured((1, shape[1]), (1, shape[0])) for name, shape in shapes.items()}

    def layer_ms_N(self, layer: str, channels_in_N: np.ndarray, channels_out_N: np.ndarray) -> np.ndarray:
        assert layer in self.layers
        blocks_N = np.ceil(channels_in_N / 8) * np.ceil(channels_out_N / 8)
        return 0.01 * blocks_N * np.where(channels_in_N % 4, 3.0, 1.0)


class Measured:
    def __init__(self, channels_in: Sequence[int], channels_out: Sequence[int]) -> None:
        self.channels_in_I, self.channels_out_O = tuple(channels_in), tuple(channels_out)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("align", [1, 8])
def test_a_latency_target_is_met_on_a_table_that_jumps(policy: str, align: int) -> None:
    coupling = large()
    table = Staircase(coupling)
    orders = {name: ranking.order_U for name, ranking in drawn_rankings(coupling, 0).items()}
    dense_ms = cost_model(coupling, orders, Target("latency", 1.0), table).total({})
    target = Target("latency", 0.6 * dense_ms)
    found = allocate(coupling, drawn_rankings(coupling, 0), target, policy=policy, align=align, table=table)
    assert found.cost_before == pytest.approx(dense_ms)
    assert abs(found.cost_after - 0.6 * dense_ms) <= 0.005 * dense_ms


def test_exact_counts_are_no_worse_than_aligned_ones_on_a_table_that_jumps() -> None:
    coupling = large()
    table, rankings = Staircase(coupling), drawn_rankings(coupling, 0)
    target = Target("latency", 1.2)
    prices = [
        gone(rankings, allocate(coupling, rankings, target, policy="cost", align=align, table=table).widths)
        for align in (1, 8)
    ]
    assert prices[0] <= 1.01 * prices[1]


def test_a_latency_target_needs_a_table() -> None:
    with pytest.raises(PruneError, match="needs a latency table"):
        allocate(small(), drawn_rankings(small(), 0), Target("latency", 1.0))


def test_an_alignment_that_no_group_can_follow_is_refused() -> None:
    with pytest.raises(PruneError, match=r"no group can lose 64 channels, .*Allow finer steps"):
        allocate(small(), drawn_rankings(small(), 0), Target("ratio", 0.3), align=64)


def test_a_network_without_free_channels_is_refused() -> None:
    coupling = analyse(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), (torch.randn(1, 3, 4, 4),))
    with pytest.raises(PruneError, match="No channel of this network can be removed"):
        allocate(coupling, {}, Target("ratio", 0.3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"2": None}, "wrong: 2"),
        ({"nowhere": by_score([1.0])}, "wrong: nowhere"),
        ({"2": by_score(np.ones(7))}, "not an order"),
        ({"2": Ranking(np.zeros(24, dtype=np.int64), np.ones(24))}, "not an order"),
        ({"2": Ranking(np.arange(24), np.full(24, np.nan))}, "finite"),
        ({"2": Ranking(np.arange(24), np.full(24, -1.0))}, "at least 0"),
        ({"2": Ranking(np.arange(24), np.ones(23))}, "must be 24"),
    ],
)
def test_rankings_that_do_not_fit_are_refused(change: dict[str, Ranking | None], message: str) -> None:
    rankings = {**drawn_rankings(small(), 0), **change}
    given_rankings = {name: ranking for name, ranking in rankings.items() if ranking is not None}
    with pytest.raises(PruneError, match=message):
        allocate(small(), given_rankings, Target("ratio", 0.3), policy="cost", align=1)


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [({"policy": "best"}, "uniform, global, cost, balanced"), ({"align": 0}, "alignment"), ({"floor": 1.5}, "floor")],
)
def test_settings_out_of_range_are_refused(settings_given: dict[str, object], message: str) -> None:
    with pytest.raises(PruneError, match=message):
        allocate(small(), drawn_rankings(small(), 0), Target("ratio", 0.3), **settings_given)  # type: ignore[arg-type]


def test_scores_say_which_units_go() -> None:
    coupling = large()
    falling = {group.name: -np.arange(group.width) for group in coupling.free}
    for kept in uniform_keep(coupling, 0.5, 1, falling).values():
        assert kept == list(range(len(kept)))
    group = coupling.free[2]
    keep = uniform_keep(coupling, 0.5, 1, falling | {group.name: np.arange(group.width)})
    assert keep[group.name][-1] == group.width - 1
    with pytest.raises(PruneError, match="scores have the shape"):
        uniform_keep(coupling, 0.5, 1, falling | {group.name: np.arange(3)})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 8)), min_size=1, max_size=12))
def test_isotonic_values_are_the_slopes_of_the_lower_convex_hull(steps: list[tuple[float, int]]) -> None:
    values, weights = (np.array(column, dtype=np.float64) for column in zip(*steps, strict=True))
    x, y = np.concatenate([[0], np.cumsum(weights)]), np.concatenate([[0], np.cumsum(values * weights)])
    slopes = isotonic(values, weights)
    assert (np.diff(slopes) >= -1e-9).all()
    hull = np.concatenate([[0], np.cumsum(slopes * weights)])
    chords = [
        min(
            y[i] + (y[j] - y[i]) * (at - x[i]) / (x[j] - x[i]) if j > i else y[i]
            for i in range(k + 1)
            for j in range(k, len(x))
        )
        for k, at in enumerate(x)
    ]
    assert hull == pytest.approx(np.array(chords), abs=1e-6)
