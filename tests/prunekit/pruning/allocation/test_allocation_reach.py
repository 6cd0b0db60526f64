"""What can be reached at most: refused without a ranking exactly where no choice of widths meets it."""

import itertools
import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.errors import PruneError
from prunekit.pruning import Coupling, analyse
from prunekit.pruning.allocation import POLICIES, Grid, Target, allocate, check_reach, cost_model, least_cost
from prunekit.pruning.evidence import by_score

KINDS = ("ratio", "macs", "params")


@cache
def coupling_of(widths: tuple[int, ...]) -> Coupling:
    layers = [nn.Conv2d(c, out, 3, padding=1) for c, out in itertools.pairwise((3, *widths))]
    network = nn.Sequential(*layers, nn.Conv2d(widths[-1], 4, 1)).eval()
    return analyse(network, (torch.zeros(1, 3, 8, 8),))


def drawn(seed: int) -> tuple[Coupling, Target, int]:
    rng = np.random.default_rng(seed)
    coupling = coupling_of(((16, 24), (40, 9, 33), (64, 128, 64))[rng.integers(3)])
    kind, align = KINDS[rng.integers(3)], int(rng.choice([1, 4, 8, 16]))
    if kind == "ratio":
        return coupling, Target("ratio", float(rng.uniform(0.5, 0.9999))), align
    dense = coupling.macs() if kind == "macs" else coupling.params()
    return coupling, Target(kind, float(dense * 10 ** rng.uniform(-5, -0.1))), align


def refusal(coupling: Coupling, target: Target, align: int) -> str | None:
    try:
        check_reach(coupling, target, align)
    except PruneError as error:
        return str(error)
    return None


@pytest.mark.drawn(60)
def test_what_is_refused_is_below_every_choice_and_what_is_advised_is_met(seed):
    coupling, target, align = drawn(seed)
    orders = {group.name: np.arange(group.width) for group in coupling.free}
    grid = Grid(coupling, align)
    options = (grid.rungs(place) for place in range(len(grid.names)))
    some = itertools.islice(itertools.product(*options), 20_000)
    totals_N = cost_model(coupling, orders, target).totals(np.array(list(some)))
    least, dense = least_cost(coupling, target, align), float(totals_N.max())
    assert least <= totals_N.min() * (1 + 1e-9)
    said = refusal(coupling, target, align)
    assert (said is not None) == (target.wanted(dense) < least - 0.005 * dense)
    if said is None:
        return
    assert f"{target.flag} is out of reach" in said
    advised = re.search(r"Ask for --(ratio|target-macs|target-params) ([0-9.]+)\.", said)
    assert advised is not None
    again = Target(target.kind, float(advised[2]))
    assert refusal(coupling, again, align) is None
    rankings = {name: by_score(np.arange(len(order_U), dtype=float)) for name, order_U in orders.items()}
    for policy in POLICIES:
        found = allocate(coupling, rankings, again, policy=policy, align=align)
        assert abs(found.cost_after - again.wanted(dense)) <= 0.005 * dense


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_asks_for_nothing_is_refused(kind):
    assert "removes nothing" in (refusal(coupling_of((16, 24)), Target(kind, 1e15), 8) or "")


def test_steps_that_no_group_can_take_are_named():
    said = refusal(coupling_of((16, 24)), Target("ratio", 0.5), 64) or ""
    assert "none of the MACs of this network can go, with channel counts in multiples of 64" in said
    assert "With --align 1, 0.9" in said
    assert "Ask for" not in said
