"""Swaps never make a choice worse, and stop where no swap makes it better."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.clique import greedy, greedy_with_swaps, improved_by_swaps, objective, random_subset


def drawn(channels: int, seed: int, rank: int = 0) -> Tensor:
    """Symmetric weights with signs and a diagonal; of low rank, as feature maps are, where `rank` is given."""
    generator = torch.Generator().manual_seed(seed)
    if rank:
        features = torch.randn(channels, rank, generator=generator, dtype=torch.float64)
        return features @ features.T
    half = torch.rand(channels, channels, generator=generator, dtype=torch.float64) - 0.5
    return half + half.T


@settings(max_examples=60, deadline=None)
@given(channels=st.integers(2, 20), seed=st.integers(0, 2**16), rank=st.sampled_from([0, 1, 3]), data=st.data())
def test_no_single_swap_improves_the_result(channels: int, seed: int, rank: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, channels))
    weights = drawn(channels, seed, rank)
    start = random_subset(weights, keep, seed=seed)
    kept = improved_by_swaps(weights, start[torch.randperm(keep)])
    reached = objective(weights, kept)
    assert len(set(kept.tolist())) == keep
    assert reached <= objective(weights, start) + 1e-9
    for leaves in kept.tolist():
        for enters in set(range(channels)) - set(kept.tolist()):
            swapped = sorted(set(kept.tolist()) - {leaves} | {enters})
            assert objective(weights, swapped) >= reached - 1e-9


@settings(max_examples=30, deadline=None)
@given(channels=st.integers(2, 60), seed=st.integers(0, 2**16), data=st.data())
def test_swaps_are_never_worse_than_greedy(channels: int, seed: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, channels))
    weights = drawn(channels, seed).float()
    better, plain = objective(weights, greedy_with_swaps(weights, keep)), objective(weights, greedy(weights, keep))
    assert better <= plain * (1 + 1e-12)


def test_swaps_find_what_greedy_misses() -> None:
    weights = torch.zeros(5, 5)
    for pair, value in {(0, 1): 1, (0, 2): 1, (0, 4): 1, (1, 2): 1, (1, 3): 2, (2, 3): 1, (3, 4): 1}.items():
        weights[pair] = weights[pair[::-1]] = value
    assert objective(weights, greedy(weights, 3)) == 2
    assert objective(weights, greedy_with_swaps(weights, 3)) == 1


def test_equal_channels_end_the_search() -> None:
    assert improved_by_swaps(torch.ones(6, 6), torch.tensor([4, 1])).tolist() == [1, 4]


@pytest.mark.parametrize("kept", [[0, 0], [0, 3], [-1, 0]])
def test_what_is_no_choice_is_refused(kept: list[int]) -> None:
    with pytest.raises(PruneError, match=r"distinct and in 0\.\.2"):
        improved_by_swaps(torch.zeros(3, 3), torch.tensor(kept))
