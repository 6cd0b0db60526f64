import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.recipe import TrainConfig
from prunekit.training.schedules import learning_rate, schedule_of


@given(
    optimiser=st.sampled_from(["sgd", "adamw"]),
    schedule=st.sampled_from(["auto", "poly", "cosine"]),
    warmup_steps=st.integers(0, 100),
    steps=st.integers(1, 500),
)
def test_rises_during_warm_up_then_falls_and_stays_positive(optimiser, schedule, warmup_steps, steps):
    config = TrainConfig(optimiser=optimiser, schedule=schedule, warmup_steps=warmup_steps, lr=0.1)
    rates = [learning_rate(config, step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= 0.1 for rate in rates)
    assert max(rates) == pytest.approx(0.1)
    assert top == min(warmup_steps, steps // 10)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_auto_follows_the_optimiser():
    assert schedule_of(TrainConfig(optimiser="sgd")) == "poly"
    assert schedule_of(TrainConfig(optimiser="adamw")) == "cosine"
    assert schedule_of(TrainConfig(optimiser="sgd", schedule="cosine")) == "cosine"


def test_poly_ends_where_the_formula_says():
    config = TrainConfig(optimiser="sgd", warmup_steps=0, lr=1.0, poly_power=0.9)
    assert learning_rate(config, 99, 100) == pytest.approx(0.01**0.9)
