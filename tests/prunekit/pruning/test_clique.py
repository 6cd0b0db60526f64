import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.pruning.clique import greedy, greedy_order


def reference_order(weights: np.ndarray) -> list[int]:
    """The rule as the paper states it: recompute every degree after every removal, in float64."""
    alive = list(range(len(weights)))
    order = []
    while alive:
        degrees = [weights[i, alive].sum() - weights[i, i] for i in alive]
        order.append(alive.pop(int(np.argmax(degrees))))
    return order


@settings(max_examples=40, deadline=None)
@given(channels=st.integers(2, 40), seed=st.integers(0, 2**16))
def test_the_order_is_that_of_the_plain_rule(channels: int, seed: int) -> None:
    half = np.random.default_rng(seed).integers(0, 4096, (channels, channels)).astype(np.float64)
    weights = half + half.T  # integers: both sums are exact, so ties break alike
    assert greedy_order(torch.from_numpy(weights)).tolist() == reference_order(weights)


def test_of_two_equal_channels_one_goes_first() -> None:
    redundancy = torch.tensor([[0.0, 1.0, 0.1], [1.0, 0.0, 0.2], [0.1, 0.2, 0.0]])
    assert greedy(redundancy, 2).tolist() == [0, 2]


@pytest.mark.parametrize("keep", [0, 4])
def test_impossible_sizes_are_refused(keep: int) -> None:
    with pytest.raises(ValueError, match="keep must be"):
        greedy(torch.zeros(3, 3), keep)


def test_large_orders_match_float64() -> None:
    half = torch.rand(512, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = (half + half.T).float()
    assert greedy(weights, 256).tolist() == sorted(reference_order(weights.double().numpy())[256:])
