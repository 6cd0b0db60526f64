"""The golden check: it passes what is right, catches what is wrong, and survives hostile files."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit_runtime.errors import GoldenError
from prunekit_runtime.measuring import golden as golden_module
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.running.runner import ClosingRunner

CONTRACT = Preprocessing(height=8, width=12, pad_multiple=8)


class Repeating(ClosingRunner):
    """Gives the same logits whatever it is shown."""

    name, inputs, outputs, input_shape = "repeating", ("images",), ("logits",), (None, 3, None, None)

    def __init__(self, logits: Any) -> None:
        self.logits = logits

    def __enter__(self) -> "Repeating":
        return self

    def run(self, images_N3hw: Any) -> Any:  # noqa: ARG002  the protocol's signature
        return self.logits

    def close(self) -> None:
        pass


def a_golden(seed: int = 0) -> GoldenCheck:
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 256, (10, 9, 3), dtype=np.uint8)
    images = CONTRACT.prepare(picture)
    logits = generator.standard_normal((1, 5, *images.shape[2:])).astype(np.float32)
    return GoldenCheck(images=images, logits=logits, picture=picture)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_a_golden_file_comes_back_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int, picture: bool) -> None:
    golden = a_golden(seed)
    golden = golden if picture else GoldenCheck(golden.images, golden.logits)
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    golden.save(path)
    loaded = GoldenCheck.load(path)
    np.testing.assert_array_equal(loaded.images, golden.images)
    np.testing.assert_array_equal(loaded.logits, golden.logits)
    assert (loaded.picture is None) == (not picture)
    assert [entry.name for entry in path.parent.iterdir()] == ["golden.npz"]


def test_arrays_in_another_memory_order_come_back_the_same(tmp_path: Path) -> None:
    golden = a_golden()
    GoldenCheck(np.asfortranarray(golden.images), np.asfortranarray(golden.logits)).save(tmp_path / "golden.npz")
    np.testing.assert_array_equal(GoldenCheck.load(tmp_path / "golden.npz").logits, golden.logits)


def test_the_same_logits_pass() -> None:
    golden = a_golden()
    report = golden.check(Repeating(golden.logits), CONTRACT)
    assert (report.max_abs_error, report.label_agreement, report.preprocessing_max_abs_error) == (0.0, 1.0, 0.0)
    assert report.passed(1.0)
    assert report.max_abs_logit == np.abs(golden.logits).max()


def test_a_wrong_pixel_counts() -> None:
    golden = a_golden()
    logits = golden.logits.copy()
    logits[0, :, 0, 0] = -np.sort(-logits[0, :, 0, 0])[::-1]
    logits[0, int(golden.logits[0, :, 0, 0].argmin()), 0, 0] = 50.0
    report = golden.check(Repeating(logits))
    assert report.label_agreement == 1 - 1 / golden.logits[0, 0].size
    assert report.max_abs_error > 40
    assert report.passed(0.95)
    assert not report.passed(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_never_pass(value: float) -> None:
    golden = a_golden()
    logits = golden.logits.copy()
    logits[0, 0, 0, 0] = value
    report = golden.check(Repeating(logits))
    assert not report.passed(0.0)
    assert report.to_json()["max_abs_error"] is None


def test_another_contract_fails() -> None:
    golden = a_golden()
    other = Preprocessing(height=8, width=12, pad_multiple=8, mean=(0.5, 0.5, 0.5))
    assert not golden.check(Repeating(golden.logits), other).passed(0.0)
    with pytest.raises(GoldenError, match="contract gives"):
        golden.check(Repeating(golden.logits), Preprocessing(height=16, width=16))


def test_logits_of_another_shape_are_refused() -> None:
    golden = a_golden()
    with pytest.raises(GoldenError, match="gives logits"):
        golden.check(Repeating(golden.logits[:, :4]))


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def hollow(shape: str) -> bytes:
    """Make an array file whose header claims a shape that its body does not have."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("images.npy", "logits.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return stream.getvalue()


ONE = np.zeros((1, 3, 4, 4), dtype=np.float32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        npz(images=ONE),
        npz(images=ONE, logits=ONE, more=ONE),
        npz(images=ONE, logits=ONE.astype(np.float64)),
        npz(images=ONE, logits=ONE[0]),
        npz(images=ONE, logits=ONE[:, :, :2]),
        npz(images=ONE[:, :2], logits=ONE),
        npz(images=ONE, logits=np.full_like(ONE, np.nan)),
        npz(images=ONE[:0], logits=ONE[:0]),
        npz(images=ONE, logits=np.array([{"a": 1}], dtype=object)),
        hollow("(1000000, 3, 1000, 1000)"),
        hollow("(-1, 3, 4, 4)"),
        hollow("__import__('os')"),
    ],
)
def test_other_files_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "golden.npz"
    path.write_bytes(content)
    with pytest.raises(GoldenError):
        GoldenCheck.load(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_one_clear_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    content = bytearray(npz(images=ONE, logits=ONE))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    path.write_bytes(content)
    try:
        GoldenCheck.load(path)
    except GoldenError:
        return


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_module, "MAX_GOLDEN_BYTES", 1000)
    a_golden().save(tmp_path / "golden.npz")
    with pytest.raises(GoldenError, match="unpacks to"):
        GoldenCheck.load(tmp_path / "golden.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match=r"absent\.npz"):
        GoldenCheck.load(tmp_path / "absent.npz")
