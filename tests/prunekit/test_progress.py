"""What a long piece of work says of itself, and how its time left is reckoned; by a clock of our own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.progress import WINDOW_S, WINDOW_STEPS, TimeLeft, counted, tell, told

PACES_S = st.floats(0.02, 100)


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def take(clock, left, steps, pace_s):
    for _ in range(steps):
        clock.now_s += pace_s
        left.step()


@given(pace_s=st.floats(1e-3, 100), steps=st.integers(10, 500))
def test_with_steps_of_one_length_it_is_right_after_ten(pace_s, steps):
    clock = Clock()
    left = TimeLeft(clock)
    assert math.isnan(left.left_s(1))
    take(clock, left, steps, pace_s)
    assert left.left_s(1000) == pytest.approx(1000 * pace_s, rel=0.05)


@given(pace_s=st.floats(0.1, 100), steps=st.integers(2, 100), warm_up_s=st.floats(0, 1e4))
def test_what_the_first_step_waits_for_is_forgotten_at_the_second(pace_s, steps, warm_up_s):
    clock = Clock()
    left = TimeLeft(clock)
    clock.now_s += warm_up_s
    take(clock, left, steps, pace_s)
    assert left.left_s(1000) == pytest.approx(1000 * pace_s, rel=0.05)


@given(before_s=PACES_S, after_s=PACES_S)
def test_a_change_of_pace_settles_and_is_not_overshot(before_s, after_s):
    clock = Clock()
    left = TimeLeft(clock)
    take(clock, left, 100, before_s)
    seen = []
    for _ in range(max(WINDOW_STEPS * math.ceil(0.2 / after_s), math.ceil(WINDOW_S / after_s)) + 2):
        take(clock, left, 1, after_s)
        seen.append(left.pace_s)
    low, high = sorted((before_s, after_s))
    assert all(0.999 * low <= pace_s <= 1.001 * high for pace_s in seen)
    assert seen[-1] == pytest.approx(after_s, rel=0.05)


@given(
    pace_s=st.floats(0.1, 10),
    waits_s=st.lists(st.floats(0.1, 1000), min_size=2, max_size=8),
    steps=st.integers(10, 60),
    start_s=st.floats(0, 100),
)
def test_interruptions_move_it_by_no_more_than_half_of_what_they_differ_by(pace_s, waits_s, steps, start_s):
    clock, epochs = Clock(), len(waits_s)
    left = TimeLeft(clock)
    for epoch, wait_s in enumerate(waits_s):
        left.go_on()
        clock.now_s += start_s if epoch else 0.0  # workers start: no part of the pace
        for step in range(steps):
            take(clock, left, 1, pace_s)
            steps_left = (epochs - epoch) * steps - step - 1
            known_s = [0.0] if epoch == 0 else waits_s[:epoch]
            bounds_s = [steps_left * pace_s + (epochs - epoch) * bound_s for bound_s in (min(known_s), max(known_s))]
            assert left.knows_interruptions == (epoch > 0)
            assert 0.95 * bounds_s[0] - 1e-6 <= left.left_s(steps_left, epochs - epoch) <= 1.05 * bounds_s[1] + 1e-6
        later = epochs - epoch - 1
        before_s = left.left_s(0, later)
        clock.now_s += wait_s
        left.interrupted(wait_s)
        if epoch:
            differs_s = max(abs(one_s - other_s) for one_s in waits_s[: epoch + 1] for other_s in waits_s[: epoch + 1])
            assert abs(left.left_s(0, later) - before_s) <= later * differs_s / 2 + 1e-6


def test_one_that_is_under_way_counts_as_long_as_it_will_take():
    left = TimeLeft(Clock())
    assert left.left_s(0, 2, current_s=6.0) == 12.0
    left.interrupted(2.0)
    assert left.left_s(0, 2, current_s=6.0) == 8.0
    assert left.left_s(0, 2) == 4.0


def test_a_thousand_steps_a_second_take_no_memory():
    clock = Clock()
    left = TimeLeft(clock)
    take(clock, left, 100_000, 1e-3)
    assert len(left._marks) <= 2 * WINDOW_S / 0.1
    assert left.pace_s == pytest.approx(1e-3, rel=0.01)


def test_whoever_listens_is_told_and_nobody_else():
    heard, inner = [], []
    assert list(counted("ab", "unheard", 2)) == ["a", "b"]
    with told(lambda *row: heard.append(row)):
        assert list(counted("ab", "letters", 2)) == ["a", "b"]
        with told(None):
            tell("still heard", 1, 2)
        with told(lambda *row: inner.append(row)):
            tell("inside", 0, 1)
    tell("after", 1, 1)
    assert heard == [("letters", 0, 2), ("letters", 1, 2), ("letters", 2, 2), ("still heard", 1, 2)]
    assert inner == [("inside", 0, 1)]
