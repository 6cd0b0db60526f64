"""Sizes and options of a build: those that fit the file, and a sentence for the others."""

import re
from typing import Any

import pytest

from prunekit_runtime.building.settings import BuildOptions, Profile, profile_for
from prunekit_runtime.errors import BuildUsageError, RunnerError

OPEN = (1, -1, -1, 3)
DECLARED = Profile((1, 32, 32, 3), (1, 64, 96, 3), (1, 128, 192, 3))


def shapes(low: Any, best: Any, high: Any) -> BuildOptions:
    return BuildOptions(minimum=low, optimum=best, maximum=high)


def test_a_fixed_size_is_its_own_profile() -> None:
    assert profile_for("m", (1, 64, 96, 3), None, BuildOptions()) == Profile(*[(1, 64, 96, 3)] * 3)


def test_the_bundle_says_the_sizes_unless_they_are_given() -> None:
    assert profile_for("m", OPEN, DECLARED, BuildOptions()) == DECLARED
    given = profile_for("m", OPEN, DECLARED, shapes((1, 8, 8, 3), (1, 8, 8, 3), (1, 16, 16, 3)))
    assert given.maximum == (1, 16, 16, 3)


@pytest.mark.parametrize(
    ("shape", "declared", "options", "words"),
    [
        ((1, 64, 96, 3), None, shapes((1, 64, 96, 3), (1, 64, 96, 3), (1, 64, 96, 3)), "1 x 64 x 96 x 3 alone"),
        (OPEN, None, BuildOptions(), "takes 1 x ? x ? x 3, and the bundle does not say"),
        (OPEN, None, BuildOptions(minimum=(1, 8, 8, 3)), "--min, --opt and --max go together"),
        (OPEN, None, shapes((1, 8, 8, 3), (1, 4, 8, 3), (1, 8, 8, 3)), "Axis 1 of the sizes is 8, 4, 8"),
        (OPEN, None, shapes((2, 8, 8, 3), (2, 8, 8, 3), (2, 8, 8, 3)), "Axis 0 of the sizes is 2, 2, 2; m asks for 1"),
        (OPEN, None, shapes((1, 8, 8), (1, 8, 8), (1, 8, 8)), "has 4 axes"),
    ],
)
def test_sizes_that_do_not_fit_are_told(shape: Any, declared: Any, options: Any, words: str) -> None:
    with pytest.raises(BuildUsageError, match=re.escape(words)):
        profile_for("m", shape, declared, options)


def test_a_size_that_no_machine_holds_is_refused() -> None:
    huge = (1, 65536, 65536, 3)
    with pytest.raises(RunnerError, match="GiB"):
        profile_for("m", OPEN, None, shapes(huge, huge, huge))


@pytest.mark.parametrize("options", [{"optimization_level": 6}, {"optimization_level": -1}, {"workspace_mib": 0}])
def test_numbers_out_of_range_are_wrong_use(options: dict[str, int]) -> None:
    with pytest.raises(BuildUsageError):
        BuildOptions(**options)  # pyright: ignore[reportArgumentType]


def test_options_of_tensorrt_are_refused_for_onnx_runtime() -> None:
    BuildOptions(force=True).refuse_for_ort()
    with pytest.raises(BuildUsageError, match="--workspace, --tf32 is for TensorRT"):
        BuildOptions(workspace_mib=1, tf32=True).refuse_for_ort()
