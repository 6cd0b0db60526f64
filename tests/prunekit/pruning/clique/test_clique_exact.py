"""The exact solver: what it calls optimal is, and what it calls a bound is one."""

from importlib import import_module
from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.clique import exact, greedy_with_swaps, objective, random_subset, solve_exactly
from prunekit.pruning.clique.convex import Bounds, best_relaxation


def drawn(channels: int, seed: int, kind: str) -> Tensor:
    """Symmetric weights: dense, few (a graph), or cosines of rectified features."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "cosine":
        features = torch.randn(channels, 5, generator=generator, dtype=torch.float64).relu() + 1e-3
        unit = torch.nn.functional.normalize(features, dim=1)
        return unit @ unit.T
    half = torch.rand(channels, channels, generator=generator, dtype=torch.float64).triu(1)
    return half + half.T if kind == "dense" else (half + half.T > 0.5).double()


def by_enumeration(weights: Tensor, keep: int) -> float:
    edges = weights.abs().fill_diagonal_(0).numpy()
    choices = np.array(list(combinations(range(len(edges)), keep)))
    return float(edges[choices[:, :, None], choices[:, None, :]].sum(axis=(1, 2)).min()) / 2


KINDS = st.sampled_from(["dense", "graph", "cosine"])


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 12), seed=st.integers(0, 2**16), kind=KINDS, data=st.data())
def test_the_optimum_is_that_of_enumeration(channels: int, seed: int, kind: str, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, channels))
    weights = drawn(channels, seed, kind)
    solution = solve_exactly(weights, keep)
    assert solution.optimal
    assert solution.gap == 0
    assert solution.objective == pytest.approx(by_enumeration(weights, keep), rel=1e-8, abs=1e-12)
    assert objective(weights, solution.kept) == pytest.approx(solution.objective, rel=1e-12)
    assert solution.bound == solution.objective


class TrueMinima:
    """A relaxation that knows each node's minimum, times a factor, and suggests the node's first choice, a poor one."""

    def __init__(self, weights_CC: np.ndarray, keep: int, factor: float) -> None:
        self.channels, self.factor = len(weights_CC), factor
        choices = np.array([np.isin(np.arange(self.channels), k) for k in combinations(range(self.channels), keep)])
        values = ((choices @ weights_CC) * choices).sum(axis=1) / 2
        order = values.argsort()[::-1]
        self.choices, self.values = choices[order], values[order]

    def bounds(self, x_NC: np.ndarray, low_NC: np.ndarray, high_NC: np.ndarray, steps: int) -> Bounds:
        del steps
        within = ((low_NC[:, None] <= self.choices) & (self.choices <= high_NC[:, None])).all(axis=2)
        least = np.where(within, self.values, np.inf).min(axis=1)
        return Bounds(self.factor * least, np.full_like(x_NC, 0.5), self.choices[within.argmax(axis=1)])


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(3, 8),
    seed=st.integers(0, 2**16),
    kind=KINDS,
    factor=st.sampled_from([1.0, 0.9, 0.0]),
    data=st.data(),
)
def test_the_search_finds_the_optimum_by_itself(
    channels: int, seed: int, kind: str, factor: float, data: st.DataObject
) -> None:
    """So few channels are solved by the first local optimum: a bad start, no swaps and poor advice leave a search."""
    keep = data.draw(st.integers(1, channels - 1))
    weights = drawn(channels, seed, kind)
    module = import_module("prunekit.pruning.clique.exact")  # the package's name `exact` is the function

    def worst(_: Tensor, weights_CC: np.ndarray, keep: int) -> np.ndarray:
        return TrueMinima(weights_CC, keep, factor).choices[0]

    def relaxation(weights_CC: np.ndarray, keep: int) -> TrueMinima:
        return TrueMinima(weights_CC, keep, factor)

    def no_swaps(*_: object) -> None: ...

    with (
        patch.object(module, "_first_choice", worst),
        patch.object(module, "best_relaxation", relaxation),
        patch.object(module, "swap_until_best_", no_swaps),
    ):
        solution = solve_exactly(weights, keep)
    assert solution.optimal
    assert solution.objective == pytest.approx(by_enumeration(weights, keep), rel=1e-8, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(channels=st.integers(3, 12), seed=st.integers(0, 2**16), kind=KINDS, data=st.data())
def test_the_bound_of_every_node_holds(channels: int, seed: int, kind: str, data: st.DataObject) -> None:
    """Whatever is fixed and however few steps are made, no choice within the node lies below the node's bound."""
    keep = data.draw(st.integers(1, channels - 1))
    weights = drawn(channels, seed, kind).fill_diagonal_(0).numpy()
    generator = np.random.default_rng(seed)
    choice = generator.permutation(channels) < keep  # the node is built around one choice, so that it holds one
    fixed = generator.random((8, channels)) < 0.4
    low, high = choice & fixed, choice | ~fixed
    start = generator.random((8, channels))
    found = best_relaxation(weights, keep).bounds(start, low, high, data.draw(st.integers(0, 4)))
    assert (found.rounded_NC.sum(axis=1) == keep).all()
    assert ((low <= found.rounded_NC) & (found.rounded_NC <= high)).all()
    assert np.isfinite(found.bound_N).all()
    for kept in combinations(range(channels), keep):
        inside = np.isin(np.arange(channels), kept)
        within = ((low <= inside) & (inside <= high)).all(axis=1)
        value = weights[np.ix_(inside, inside)].sum() / 2
        assert (found.bound_N[within] <= value + 1e-7 * max(1.0, value)).all()


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_the_search_does_not_depend_on_the_scale(scale: float) -> None:
    weights = drawn(24, 3, "dense")
    plain, scaled = solve_exactly(weights, 10), solve_exactly(weights * scale, 10)
    assert scaled.kept.tolist() == plain.kept.tolist()
    assert scaled.optimal
    assert scaled.nodes <= 2 * plain.nodes


def test_thirty_channels_are_proven() -> None:
    for kind in ("dense", "cosine"):
        weights = drawn(30, 0, kind)
        solution = solve_exactly(weights, 15, node_limit=5_000)
        assert solution.optimal
        assert solution.objective <= objective(weights, greedy_with_swaps(weights, 15)) * (1 + 1e-9)
        assert exact(weights, 15).tolist() == solution.kept.tolist()


def test_a_limit_leaves_a_gap_that_is_true() -> None:
    weights = drawn(42, 0, "dense")
    limited = solve_exactly(weights, 12, node_limit=200)
    proven = solve_exactly(weights, 12)
    assert proven.optimal
    assert not limited.optimal
    assert 200 <= limited.nodes < 200 + 128, "one batch beyond the limit at most"
    assert limited.bound <= proven.objective <= limited.objective
    assert limited.gap == pytest.approx((limited.objective - limited.bound) / limited.objective)
    assert 0 < limited.gap < 0.3
    assert limited.objective <= objective(weights, random_subset(weights, 12))


def test_no_time_leaves_the_local_optimum_and_a_bound() -> None:
    weights = drawn(40, 1, "dense")
    solution = solve_exactly(weights, 10, time_limit_s=0)
    assert not solution.optimal
    assert solution.nodes == 1
    assert 0 < solution.bound < solution.objective <= objective(weights, greedy_with_swaps(weights, 10))


def test_without_a_proof_the_solver_refuses() -> None:
    with pytest.raises(PruneError, match=r"No proof that 10 of 40 channels.*gap is .*node_limit"):
        exact(drawn(40, 1, "dense"), 10, node_limit=1)


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(2, 12), seed=st.integers(0, 2**16), data=st.data())
def test_nodes_of_a_flat_function_are_bounded_too(channels: int, seed: int, data: st.DataObject) -> None:
    """Where all weights are equal the curvature is nil and a gradient step endless."""
    keep = data.draw(st.integers(1, channels - 1))
    weights = np.ones((channels, channels)) - np.eye(channels)
    generator = np.random.default_rng(seed)
    choice = generator.permutation(channels) < keep
    fixed = generator.random((8, channels)) < 0.4
    start = generator.random((8, channels))
    found = best_relaxation(weights, keep).bounds(start, choice & fixed, choice | ~fixed, data.draw(st.integers(0, 4)))
    np.testing.assert_allclose(found.bound_N, keep * (keep - 1) / 2, atol=1e-6)
