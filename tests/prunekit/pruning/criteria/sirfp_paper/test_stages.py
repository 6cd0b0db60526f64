import hypothesis.strategies as st
import pytest
from hypothesis import given

from prunekit.errors import ConfigError
from prunekit.pruning.criteria.sirfp_paper import StageSchedule


def test_the_published_stages() -> None:
    schedule = StageSchedule()
    assert schedule.ratios(0.6) == (0.3, 0.6)
    assert schedule.ratios(0.7) == (0.35, 0.7)
    assert schedule.ratios(0.8) == (0.4, 0.8)
    assert schedule.ratios(0.9) == (0.3, 0.6, 0.9)


@given(st.floats(0.001, 0.999), st.integers(0, 500))
def test_stages_rise_to_the_ratio_and_share_out_all_epochs(ratio: float, total: int) -> None:
    ratios, epochs = StageSchedule().ratios(ratio), StageSchedule().epochs(ratio, total)
    assert list(ratios) == sorted(ratios)
    assert ratios[-1] == pytest.approx(ratio)
    assert len(epochs) == len(ratios)
    assert sum(epochs) == total
    assert min(epochs) >= 0


def test_epochs_keep_the_published_proportions() -> None:
    assert StageSchedule().epochs(0.6, 44) == (8, 36)
    assert StageSchedule().epochs(0.9, 52) == (8, 8, 36)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.2])
def test_an_impossible_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="must be in"):
        StageSchedule().ratios(ratio)
