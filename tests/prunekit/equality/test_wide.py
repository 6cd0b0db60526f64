"""Float64 throughout, and what is chosen is handed on as it is."""

import pytest
import torch
from torch.nn import functional as F

from prunekit.equality.wide import Wide, steady

CHOSEN = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True),
    "max_pool3d": lambda x: F.max_pool3d(x, 2, return_indices=True),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (3, 5), return_indices=True),
    "max": lambda x: x.max(dim=1),
    "min kept": lambda x: x.min(dim=-1, keepdim=True),
    "median": lambda x: x.median(dim=2),
    "kthvalue": lambda x: x.kthvalue(3, dim=2),
    "kthvalue of the last": lambda x: x.kthvalue(3),
    "mode": lambda x: x.mode(dim=-2),
    "topk": lambda x: x.topk(4, dim=3),
    "topk of the last": lambda x: x.topk(4),
    "sort": lambda x: x.sort(descending=True),
    "stable sort": lambda x: x.sort(stable=True, dim=1),
    "cummax": lambda x: x.cummax(dim=2),
}


@pytest.mark.parametrize("choose", CHOSEN.values(), ids=CHOSEN.keys())
def test_what_is_chosen_is_handed_on_to_the_last_bit(choose) -> None:
    values = torch.randn(2, 5, 8, 9, dtype=torch.float64)
    wanted = choose(values)
    with Wide():
        got = choose(values)
    assert torch.equal(wanted[0], got[0])
    assert torch.equal(wanted[1], got[1])


def test_numbers_are_float64_whatever_is_asked_for() -> None:
    with Wide():
        made = [torch.zeros(2), torch.rand(2), torch.ones(2, dtype=torch.float16), torch.arange(3.0)]
        cast = torch.tensor([1 / 3], dtype=torch.float64).to(torch.bfloat16).float()
        whole = torch.tensor([2.9999999999999996]).to(torch.int64)
        mixed = torch.tensor([0.1], dtype=torch.float64) + torch.tensor([1], dtype=torch.float32)
    assert {one.dtype for one in [*made, cast, mixed]} == {torch.float64}
    assert cast.item() == 1 / 3
    assert whole.tolist() == [3]


def test_in_place_writes_reach_what_they_write_to() -> None:
    with Wide():
        made = torch.zeros(2, 3)
        made[:, 1] = torch.ones(2)
        made.add_(1)
        view = made.view(-1)
        view[0] = 5
    assert made.tolist() == [[5, 2, 1], [1, 2, 1]]


def test_the_bits_of_a_number_stay() -> None:
    bits = torch.tensor([1.0], dtype=torch.float64).view(torch.int64)
    with Wide():
        assert torch.equal(torch.tensor([1.0], dtype=torch.float64).view(torch.int64), bits)


def test_steady_values_move_by_a_rounding_at_most_and_forget_smaller_ones() -> None:
    values = torch.randn(10_000, dtype=torch.float64) * torch.logspace(-6, 6, 10_000, dtype=torch.float64)
    assert ((steady(values) - values).abs() <= values.abs() * 2**-24 + 2**-41).all()
    assert torch.equal(steady(values * (1 + 2**-52)), steady(values))
    assert steady(torch.tensor([-1e-17, 3e-16], dtype=torch.float64)).abs().max() == 0
