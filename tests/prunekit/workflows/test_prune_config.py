"""Settings and schedule of a pruning: what goes together, and how much is gone after each stage."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prunekit.errors import ConfigError
from prunekit.recipe import parse_recipe
from prunekit.workflows.pruning.config import PruneConfig, fine_tuning_recipe
from prunekit.workflows.pruning.schedule import shares

ratios = st.floats(0.01, 0.99)


def config(**values: object) -> PruneConfig:
    return PruneConfig.model_validate({"criterion": "random", **values})


def test_without_a_target_half_of_the_macs_go() -> None:
    assert (config().target_kind, config().target_value) == ("ratio", 0.5)
    assert PruneConfig.model_validate(config().model_dump(mode="json")) == config()


@pytest.mark.parametrize(
    ("name", "kind"), [("target_macs", "macs"), ("target_params", "params"), ("target_latency_ms", "latency")]
)
def test_a_target_stands_in_the_place_of_the_ratio(name: str, kind: str) -> None:
    asked = config(**{name: 1234.5})
    assert (asked.ratio, asked.target_kind, asked.target_value) == (None, kind, 1234.5)
    assert PruneConfig.model_validate(asked.model_dump(mode="json")) == asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 0.5, "target_macs": 1e9}, "--ratio and --target-macs"),
        ({"target_params": 1e6, "target_latency_ms": 8}, "--target-params and --target-latency"),
        ({"criterion": "quux"}, "there are .*random"),
        ({"seed": 2**31}, "less than 2147483648"),
        ({"stages": (0.3,)}, "iterative"),
        ({"schedule": "gradual", "stages": (0.3,)}, "iterative"),
        ({"schedule": "iterative", "stages": (0.3, 0.2)}, "rise"),
        ({"schedule": "iterative", "stages": (0.2, 0.2)}, "rise"),
        ({"schedule": "iterative", "stages": (0.0, 0.2)}, "between 0 and 1"),
        ({"schedule": "iterative", "stages": (0.3, 0.6), "ratio": 0.6}, r"leave 0\.6 out"),
        ({"schedule": "iterative", "stages": (0.3,), "steps": 2}, "leave --steps out"),
        ({"steps": 3}, "--steps 3 belongs to --schedule iterative or gradual"),
        ({"settings": {"train.epochs": 3}}, "decided by --epochs"),
        ({"settings": {"model.name": "x"}}, "train.KEY"),
        ({"settings": {"data.sampler": "balanced"}}, "train.KEY"),
        ({"settings": {"data.height": 64}}, "cannot change"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**values)


@given(ratios, st.sampled_from(["iterative", "gradual"]), st.integers(1, 12))
def test_stages_rise_to_the_target(final: float, schedule: str, steps: int) -> None:
    found = shares(config(schedule=schedule, steps=steps), final)
    assert len(found) == steps
    assert found[-1] == final
    assert all(0 < low < high for low, high in pairwise(found))


@given(ratios, st.integers(3, 12))
def test_gradual_stages_shrink_and_iterative_ones_are_equal(final: float, steps: int) -> None:
    def parts(schedule: str) -> list[float]:
        found = (0.0, *shares(config(schedule=schedule, steps=steps), final))
        return [high - low for low, high in pairwise(found)]

    gradual, equal = parts("gradual"), parts("iterative")
    assert all(high > low for high, low in pairwise(gradual))
    assert equal == pytest.approx([final / steps] * steps)


@pytest.mark.parametrize(
    ("ratio", "steps", "published"),
    [(0.6, 2, (0.3, 0.6)), (0.7, 2, (0.35, 0.7)), (0.8, 2, (0.4, 0.8)), (0.9, 3, (0.3, 0.6, 0.9))],
)
def test_equal_stages_are_those_of_sirfp_s_scripts(ratio: float, steps: int, published: tuple[float, ...]) -> None:
    assert shares(config(ratio=ratio, schedule="iterative", steps=steps), ratio) == pytest.approx(published)


def test_named_stages_lie_below_the_target() -> None:
    asked = config(schedule="iterative", stages=(0.3, 0.6), target_macs=1e6)
    assert asked.stage_count == 3
    assert shares(asked, 0.9) == (0.3, 0.6, 0.9)
    with pytest.raises(ConfigError, match=r"0\.550.*got 0\.6"):
        shares(asked, 0.55)


def test_the_fine_tuning_has_the_source_s_recipe_but_for_what_pruning_decides() -> None:
    source = parse_recipe(
        {
            "train": {"epochs": 9, "rewind_epoch": 7, "sparsity": "l1", "batch_size": 6, "loss": "gsrl"},
            "selection": {"strategy": "pfb"},
        }
    )
    asked = config(epochs=2, lr=0.5, seed=3, distill="logits", sampler="balanced", settings={"train.momentum": 0.5})
    train = fine_tuning_recipe(source, asked).train
    assert (train.epochs, train.lr, train.seed, train.distill) == (2, 0.5, 3, "logits")
    assert (train.rewind_epoch, train.sparsity) == (0, "none")
    assert (train.batch_size, train.loss, train.momentum) == (6, "gsrl", 0.5)
    assert fine_tuning_recipe(source, asked).data.sampler == "balanced"
    assert fine_tuning_recipe(source, asked).selection.strategy == "none"
    chosen = fine_tuning_recipe(source, PruneConfig(select="classes", select_ratio=0.3)).selection
    assert (chosen.strategy, chosen.ratio) == ("classes", 0.3)
    assert fine_tuning_recipe(source, config(loss="ce")).train.loss == "ce"


def test_a_setting_that_the_recipe_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.momentun"):
        fine_tuning_recipe(parse_recipe({}), config(settings={"train.momentun": 0.5}))
