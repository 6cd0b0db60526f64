"""Plan headers: read from synthetic bytes, and from a real TensorRT-RTX plan where the package is there."""

import importlib
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.errors import RunnerError
from prunekit_runtime.running.plan import MAGICS, PlanHeader, read_plan_header, sniff_plan

BYTES = st.integers(0, 255)


@given(
    st.sampled_from(sorted(MAGICS)),
    st.tuples(BYTES, BYTES, BYTES, BYTES),
    st.binary(),
    st.binary(min_size=20, max_size=20),
)
def test_header_names_package_and_version(magic: bytes, version: tuple[int, ...], rest: bytes, middle: bytes) -> None:
    header = sniff_plan(magic + middle + bytes(version) + rest)
    assert header == PlanHeader(MAGICS[magic], ".".join(map(str, version)))


@given(st.binary(max_size=27))
def test_a_short_file_is_refused(content: bytes) -> None:
    with pytest.raises(RunnerError, match="cut short"):
        sniff_plan(content)


@given(st.binary(min_size=28).filter(lambda content: content[:4] not in MAGICS))
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(RunnerError, match="no TensorRT engine"):
        sniff_plan(content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"absent\.plan"):
        read_plan_header(tmp_path / "absent.plan")


def test_header_of_a_real_plan(rtx_plan: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trt = importlib.import_module("tensorrt_rtx")
    assert read_plan_header(rtx_plan) == PlanHeader("tensorrt_rtx", trt.__version__)
