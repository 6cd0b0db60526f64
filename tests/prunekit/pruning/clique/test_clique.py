"""What every solver of the clique promises, and the greedy rule itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.clique import SOLVERS, greedy, greedy_order, greedy_removal, objective, random_subset


def drawn(channels: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Symmetric weights with signs and a diagonal; small integers, so that every sum is exact and ties are ties."""
    half = torch.randint(-2048, 2048, (channels, channels), generator=torch.Generator().manual_seed(seed))
    return (half + half.T).to(dtype)


def plain_rule(weights: np.ndarray, vertex: np.ndarray) -> tuple[list[int], list[float]]:
    """The rule as the paper states it: every degree is added up again after every removal."""
    weights = np.abs(weights)
    np.fill_diagonal(weights, 0)
    alive = list(range(len(weights)))
    order, degrees = [], []
    while alive:
        degree = weights[np.ix_(alive, alive)].sum(axis=1)
        position = int(np.argmax(degree - vertex[alive]))
        degrees.append(float(degree[position]))
        order.append(alive.pop(position))
    return order, degrees


@settings(max_examples=60, deadline=None)
@given(channels=st.integers(1, 40), seed=st.integers(0, 2**16), worth=st.sampled_from([0, 1, 50_000]))
def test_the_removal_is_that_of_the_plain_rule(channels: int, seed: int, worth: int) -> None:
    weights = drawn(channels, seed)
    vertex = np.random.default_rng(seed).integers(0, worth + 1, channels).astype(np.float64)
    order, degrees = plain_rule(weights.numpy().copy(), vertex)
    removal = greedy_removal(weights, vertex_U=vertex)
    assert removal.order_R.tolist() == order
    assert removal.degree_R.tolist() == degrees
    if worth == 0:
        assert greedy_order(weights).tolist() == order


@settings(max_examples=40, deadline=None)
@given(channels=st.integers(1, 30), seed=st.integers(0, 2**16), data=st.data())
def test_the_degrees_account_for_the_objective(channels: int, seed: int, data: st.DataObject) -> None:
    removals = data.draw(st.integers(0, channels))
    weights = drawn(channels, seed)
    removal = greedy_removal(weights, removals)
    kept = [channel for channel in range(channels) if channel not in removal.order_R]
    assert len(kept) == channels - removals
    assert objective(weights, kept) == objective(weights, range(channels)) - removal.degree_R.sum()


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(2, 30), seed=st.integers(0, 2**16))
def test_vertex_weights_give_the_rule_that_counts_the_diagonal(channels: int, seed: int) -> None:
    weights = drawn(channels, seed).numpy()
    alive, order = np.abs(weights), []
    for _ in range(channels):  # sirfp.md 1.2 (d): zero the row and the column of the largest row sum
        sums = alive.sum(axis=1)
        sums[order] = -1
        order.append(int(sums.argmax()))
        alive[order[-1], :] = alive[:, order[-1]] = 0
    removal = greedy_removal(torch.from_numpy(weights), vertex_U=-np.abs(weights.diagonal()))
    assert removal.order_R.tolist() == order


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=8, deadline=None)
@given(channels=st.integers(1, 12), seed=st.integers(0, 2**16), data=st.data())
def test_every_solver_keeps_what_was_asked_for(name: str, channels: int, seed: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, channels))
    weights = drawn(channels, seed, data.draw(st.sampled_from([torch.float32, torch.float64])))
    before = weights.clone()
    kept = SOLVERS[name](weights, keep)
    assert kept.dtype == torch.int64
    assert kept.device == weights.device
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) == keep
    assert set(kept.tolist()) <= set(range(channels))
    assert torch.equal(weights, before), "the caller's matrix is not written to"


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=8, deadline=None)
@given(channels=st.integers(2, 12), seed=st.integers(0, 2**16), data=st.data())
def test_signs_and_the_diagonal_decide_nothing(name: str, channels: int, seed: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, channels))
    weights = drawn(channels, seed)
    plain = weights.abs().fill_diagonal_(0)
    assert SOLVERS[name](weights, keep).tolist() == SOLVERS[name](plain, keep).tolist()


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "random"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_of_two_equal_channels_one_goes_first(name: str, dtype: torch.dtype) -> None:
    redundancy = torch.tensor([[0.0, 1.0, 0.1], [1.0, 0.0, 0.2], [0.1, 0.2, 0.0]], dtype=dtype)
    assert SOLVERS[name](redundancy, 2).tolist() == [0, 2]


def test_random_subsets_depend_on_the_seed_alone() -> None:
    weights = drawn(40, 0)
    kept = [random_subset(weights, 20, seed=seed).tolist() for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert random_subset(drawn(40, 1), 20).tolist() == kept[0]


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("keep", [-1, 0, 4])
def test_impossible_sizes_are_refused(name: str, keep: int) -> None:
    with pytest.raises(PruneError, match=rf"keep must be in 1\.\.3, .*got {keep}"):
        SOLVERS[name](torch.zeros(3, 3), keep)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "random"])
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(3, 2), r"shape \(3, 2\)"),
        (torch.zeros(3), r"shape \(3,\)"),
        (torch.zeros(()), r"shape \(\)"),
        (torch.zeros(0, 0), r"shape \(0, 0\)"),
        (torch.tensor([[0.0, float("nan")], [float("nan"), 0.0]]), "finite"),
        (torch.tensor([[0.0, float("-inf")], [float("-inf"), 0.0]]), "finite"),
        (torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]), "symmetric"),
    ],
)
def test_what_is_no_redundancy_matrix_is_refused(name: str, matrix: Tensor, message: str) -> None:
    with pytest.raises(PruneError, match=message):
        SOLVERS[name](matrix, 1)


def test_impossible_removals_and_vertex_weights_are_refused() -> None:
    for removals in (-1, 4):
        with pytest.raises(PruneError, match=f"removals must be in 0..3.*got {removals}"):
            greedy_removal(torch.zeros(3, 3), removals)
    with pytest.raises(PruneError, match=r"3 channels, got the shape \(2,\)"):
        greedy_removal(torch.zeros(3, 3), vertex_U=[0, 1])
    with pytest.raises(PruneError, match="infinite values or NaN"):
        greedy_removal(torch.zeros(3, 3), vertex_U=[0, 1, float("nan")])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_orders_match_float64(dtype: torch.dtype) -> None:
    half = torch.rand(512, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    order, _ = plain_rule((half + half.T).double().numpy(), np.zeros(512))
    assert greedy(half + half.T, 256).tolist() == sorted(order[256:])
