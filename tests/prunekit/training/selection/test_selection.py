import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import ConfigError
from prunekit.models.zoo import build
from prunekit.recipe import SelectionConfig
from prunekit.training.selection import Place, make_selector
from prunekit.training.selection.base import KeepCount
from prunekit.training.selection.keep_all import KeepAll
from prunekit.training.selection.random_part import RandomSelector

SHARES = st.floats(0, 1, allow_nan=False)


def _places(epochs: int, steps: int) -> list[Place]:
    return [Place(epoch, epochs, step, steps) for epoch in range(epochs) for step in range(steps)]


@given(st.floats(0, 0.9), SHARES, SHARES, st.booleans(), st.integers(2, 16), st.integers(1, 9), st.integers(1, 30))
def test_the_kept_count_of_a_run_is_the_planned_one_to_less_than_a_sample(
    ratio, one, two, ramp, batch_size, epochs, steps
):
    start, end = sorted((one, two))
    keep = KeepCount(SelectionConfig(ratio=ratio, start=start, end=end, ramp=ramp))
    places = _places(epochs, steps)
    counts = [keep.next(batch_size, place.progress) for place in places]
    planned = sum((1 - keep.ratio(place.progress)) * batch_size for place in places)
    assert abs(sum(counts) - planned) < 1
    assert all(0 <= count <= batch_size for count in counts)


@given(st.floats(0, 0.9), SHARES, SHARES, st.booleans(), SHARES)
def test_the_ratio_is_zero_at_the_ends_and_never_above_the_flag(ratio, one, two, ramp, progress):
    start, end = sorted((one, two))
    planned = KeepCount(SelectionConfig(ratio=ratio, start=start, end=end, ramp=ramp)).ratio(progress)
    assert 0 <= planned <= ratio * (1 + 1e-9)
    if progress < start or progress >= end:
        assert planned == 0


def test_the_ramp_rises_from_a_fifth_to_the_ratio_at_half_the_end():
    keep = KeepCount(SelectionConfig(ratio=0.5, start=0.1, end=0.8))
    assert keep.ratio(0.1) == pytest.approx(0.1)
    assert keep.ratio(0.25) == pytest.approx(0.3)
    assert keep.ratio(0.4) == keep.ratio(0.79) == pytest.approx(0.5)


def test_random_depends_on_seed_and_place_alone_and_returns_sorted_positions():
    config = SelectionConfig(strategy="random", ratio=0.5, start=0, end=1, ramp=False)
    images = torch.zeros(8, 3, 4, 4)
    chosen: dict[int, list[list[int]]] = {}
    for seed in (0, 0, 1):
        torch.manual_seed(len(chosen))  # the global generator plays no part
        selector = RandomSelector(config, seed)
        kept = [selector.select(images, place).tolist() for place in _places(3, 5)]
        assert chosen.setdefault(seed, kept) == kept
        assert all(positions == sorted(set(positions)) and len(positions) == 4 for positions in kept)
    assert chosen[0] != chosen[1]
    assert len({tuple(kept) for kept in chosen[0]}) > 5


def test_random_goes_on_from_its_state():
    config = SelectionConfig(strategy="random", ratio=0.3, start=0, end=1)
    images, places = torch.zeros(7, 3, 4, 4), _places(4, 6)
    selector = RandomSelector(config, 0)
    kept = [selector.select(images, place).tolist() for place in places[:10]]
    other = RandomSelector(config, 0)
    other.load_state(selector.state())
    whole = RandomSelector(config, 0)
    assert kept + [other.select(images, place).tolist() for place in places[10:]] == [
        whole.select(images, place).tolist() for place in places
    ]


def test_none_keeps_all():
    assert KeepAll().select(torch.zeros(3, 3, 4, 4), Place(0, 1, 0, 1)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("strategy", ["random", "pfb"])
def test_a_batch_too_small_for_the_ratio_is_refused_with_the_size_to_use(tiny, strategy):
    recipe = tiny(**{"selection.strategy": strategy, "selection.ratio": 0.6})
    segmenter = build(recipe.model.name, num_classes=3)
    with pytest.raises(ConfigError, match=r"train\.batch_size to 5 or more"):
        make_selector(segmenter, recipe)
