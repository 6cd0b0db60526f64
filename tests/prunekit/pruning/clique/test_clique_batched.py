"""Many groups at once give what each gives alone."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.clique import greedy_order, greedy_orders
from prunekit.pruning.clique.batched import orders_together, removed_together_


def drawn(channels: int, seed: int) -> Tensor:
    """Symmetric small integers with signs and a diagonal: every sum is exact, and ties are ties."""
    half = torch.randint(-4, 5, (channels, channels), generator=torch.Generator().manual_seed(seed))
    return (half + half.T).double()


@settings(max_examples=60, deadline=None)
@given(widths=st.lists(st.integers(1, 24), max_size=6), seed=st.integers(0, 2**16), data=st.data())
def test_all_at_once_is_one_by_one(widths: list[int], seed: int, data: st.DataObject) -> None:
    dtypes = data.draw(st.lists(st.sampled_from([torch.float32, torch.float64]), min_size=6, max_size=6))
    matrices = [drawn(width, seed + at).to(dtypes[at]) for at, width in enumerate(widths)]
    removals = [data.draw(st.integers(0, width)) for width in widths]
    alone = [greedy_order(matrix, count).tolist() for matrix, count in zip(matrices, removals, strict=True)]
    assert [order.tolist() for order in greedy_orders(matrices, removals)] == alone
    if matrices:
        assert [order.tolist() for order in orders_together(matrices, removals)] == alone


def test_without_removals_every_channel_is_ordered() -> None:
    matrices = [drawn(width, width) for width in (5, 1, 9)]
    assert [sorted(order.tolist()) for order in greedy_orders(matrices)] == [list(range(width)) for width in (5, 1, 9)]


def test_cosines_give_the_same_orders_together() -> None:
    matrices = []
    for seed, width in enumerate((96, 7, 64)):
        features_CN = torch.randn(width, 40, generator=torch.Generator().manual_seed(seed)).relu()
        unit_CN = torch.nn.functional.normalize(features_CN, dim=1)
        matrices.append(unit_CN @ unit_CN.T)
    alone = [order.tolist() for order in greedy_orders(matrices)]
    assert [order.tolist() for order in orders_together(matrices, [96, 7, 64])] == alone


def test_the_steps_ask_nothing_of_the_device() -> None:
    """Meta tensors have shapes and no values: a step that read one back to decide what to do next would raise."""
    gain_GM = torch.zeros(2, 5, dtype=torch.float64, device="meta")
    assert removed_together_(torch.zeros(25 + 9, device="meta"), gain_GM, [5, 3], [4, 1]).shape == (2, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_orders_of_the_cpu() -> None:
    matrices = [drawn(width, width) for width in (64, 3, 129, 512)]
    on_gpu = greedy_orders([matrix.cuda() for matrix in matrices], [32, 3, 100, 256])
    assert all(order.is_cuda for order in on_gpu)
    on_cpu = greedy_orders(matrices, [32, 3, 100, 256])
    assert [order.tolist() for order in on_gpu] == [order.tolist() for order in on_cpu]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PruneError, match="Got 1 removals for 2"):
        greedy_orders([drawn(3, 0), drawn(4, 0)], [1])
    with pytest.raises(PruneError, match=r"removals must be in 0\.\.3.*got 4"):
        greedy_orders([drawn(3, 0)], [4])
    with pytest.raises(PruneError, match=r"shape \(3, 2\)"):
        greedy_orders([torch.zeros(3, 2)])
    with pytest.raises(PruneError, match="one device, got cpu, meta"):
        greedy_orders([torch.zeros(2, 2), torch.zeros(2, 2, device="meta")])


@pytest.mark.parametrize("together", [greedy_orders, orders_together])
def test_a_bad_matrix_among_good_ones_is_refused(
    together: Callable[[Sequence[Tensor], Sequence[int]], list[Tensor]],
) -> None:
    bad = {"finite": torch.full((2, 2), float("nan")), "symmetric": torch.tensor([[0.0, 1.0], [0.5, 0.0]])}
    for message, matrix in bad.items():
        with pytest.raises(PruneError, match=message):
            together([drawn(3, 0), matrix], [1, 1])
