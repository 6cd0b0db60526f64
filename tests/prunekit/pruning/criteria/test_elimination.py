import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunekit.pruning.criteria import elimination
from prunekit.pruning.criteria.elimination import Consumer, eliminate

RIDGE = 1e-3


def drawn(units: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Moments of correlated features, and a weight."""
    generator = torch.Generator().manual_seed(seed)
    features_UN = torch.randn(units, units, generator=generator, dtype=torch.float64)
    features_UN = features_UN @ torch.randn(units, 80, generator=generator, dtype=torch.float64)
    return features_UN @ features_UN.T / 80, torch.randn(units, outputs, generator=generator, dtype=torch.float64)


def error_of(keep: list[int], moment_UU: Tensor, weight_UO: Tensor) -> float:
    """Squared output error of the best refit on `keep`, by least squares."""
    regular = moment_UU + RIDGE * moment_UU.diagonal().mean() * torch.eye(len(moment_UU), dtype=torch.float64)
    rest = torch.eye(len(regular), dtype=torch.float64)
    if keep:
        rest[keep] -= torch.linalg.solve(regular[keep][:, keep], regular[keep])
    return float(torch.trace(weight_UO.T @ rest.T @ regular @ rest @ weight_UO))


@settings(max_examples=25, deadline=None)
@given(units=st.integers(1, 14), seed=st.integers(0, 2**16), consumers=st.integers(1, 3), block=st.integers(1, 20))
def test_each_price_is_the_growth_of_the_least_squares_error(units: int, seed: int, consumers: int, block: int) -> None:
    cases = [drawn(units, 3, seed + index) for index in range(consumers)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elimination, "BLOCK", block)
        ranking = eliminate([Consumer(moment, weight @ weight.T) for moment, weight in cases], RIDGE)
    alive, error = list(range(units)), 0.0
    scale = sum(error_of([], *case) for case in cases)
    for unit, price in zip(ranking.order_U.tolist(), ranking.price_U, strict=True):
        errors = {u: sum(error_of([i for i in alive if i != u], *case) for case in cases) for u in alive}
        assert errors[unit] <= min(errors.values()) + 1e-9 * scale, "the cheapest goes first"
        alive.remove(unit)
        assert price == pytest.approx(errors[unit] - error, abs=1e-9 * scale)
        error = errors[unit]


def test_of_twins_one_goes_for_nothing_and_the_other_stays() -> None:
    moment_UU, weight_UO = drawn(6, 4, 0)
    twin = torch.cat([torch.eye(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)[2:3] * 3])
    weight_UO = torch.cat([weight_UO, weight_UO[:1]])
    ranking = eliminate([Consumer(twin @ moment_UU @ twin.T, weight_UO @ weight_UO.T)], 1e-9)
    assert ranking.order_U[0] in (2, 6)
    assert ranking.price_U[0] < 1e-6 * ranking.price_U[1:].min()


def test_prices_are_never_below_zero_and_every_unit_goes_once() -> None:
    silent = torch.zeros(5, 5, dtype=torch.float64)
    ranking = eliminate([Consumer(silent, silent)], RIDGE)
    assert sorted(ranking.order_U.tolist()) == list(range(5))
    assert np.all(ranking.price_U >= 0)
