import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PruneError
from prunekit.pruning.allocation import Target

KINDS = ["macs", "params", "latency"]


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, math.nan])
def test_ratios_out_of_range_are_refused(ratio: float) -> None:
    with pytest.raises(PruneError, match=r"must be in \[0, 1\)"):
        Target("ratio", ratio)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_costs_that_are_no_cost_are_refused(kind: str, value: float) -> None:
    with pytest.raises(PruneError, match="above 0"):
        Target(kind, value)  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(PruneError, match="ratio, macs, params, latency"):
        Target("energy", 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "flag"), [("macs", "--target-macs"), ("params", "--target-params"), ("latency", "--target-latency")]
)
@pytest.mark.parametrize("value", [100.0, 101.0])
def test_a_target_that_the_dense_network_meets_is_refused(kind: str, flag: str, value: float) -> None:
    with pytest.raises(PruneError, match=f"removes nothing.*{flag}"):
        Target(kind, value).wanted(100.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "flag"),
    [
        (Target("ratio", 0.5), "--ratio 0.5"),
        (Target("macs", 1_500_000_000), "--target-macs 1500000000"),
        (Target("params", 5_000_000), "--target-params 5000000"),
        (Target("latency", 8.125), "--target-latency 8.125ms"),
    ],
)
def test_a_flag_is_what_one_types(target: Target, flag: str) -> None:
    assert target.flag == flag


@given(st.floats(0.01, 0.99), st.floats(1e4, 1e12))
def test_a_ratio_is_the_share_that_goes(ratio: float, dense: float) -> None:
    assert Target("ratio", ratio).wanted(dense) == pytest.approx((1 - ratio) * dense)


@given(st.sampled_from(["ratio", *KINDS]), st.floats(0.01, 0.99), st.floats(1e4, 1e12))
def test_a_target_made_from_a_cost_asks_for_that_cost(kind: str, share: float, dense: float) -> None:
    target = Target("ratio", 0.5) if kind == "ratio" else Target(kind, 1.0)  # type: ignore[arg-type]
    wanted = target.leaving(share * dense, dense).wanted(dense)
    assert wanted == pytest.approx(share * dense, abs=1e-3 * dense)
