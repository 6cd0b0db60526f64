"""Every fixture and every test begins with the same random numbers, and hypothesis gives the same cases to all."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def numbers() -> tuple[float, float, float]:
    return float(torch.rand(1)), random.random(), float(np.random.rand())


@pytest.fixture
def early() -> tuple[float, float, float]:
    return numbers()


@pytest.fixture
def late(early: tuple[float, float, float]) -> tuple[float, float, float]:
    assert early
    return numbers()


@pytest.mark.parametrize("again", range(2))
def test_what_came_before_does_not_matter(early, late, again: int) -> None:
    assert early == late == numbers()
    assert numbers() != early
    assert again in (0, 1)


def test_one_thread_computes(early) -> None:
    assert early
    assert torch.get_num_threads() == 1


@given(st.integers(0, 3))
def test_each_case_begins_with_the_same_random_numbers(case: int) -> None:
    first = float(torch.rand(1))
    torch.manual_seed(0)
    assert first == float(torch.rand(1)), case


@pytest.mark.drawn(3)
def test_marked_tests_get_seeds(seed: int) -> None:
    assert seed >= 0


def test_no_test_has_a_deadline() -> None:
    assert settings().deadline is None
