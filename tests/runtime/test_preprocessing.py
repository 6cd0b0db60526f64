"""The preprocessing contract: equal to torch, strict about its keys, and its own inverse in size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from prunekit_runtime.errors import ContractError
from prunekit_runtime.preprocessing import Preprocessing, read_contract, resize_bilinear
from prunekit_runtime.rules import RULES

SIDES = st.integers(1, 70)
SEEDS = st.integers(0, 2**31)
CONTRACT = Preprocessing(height=24, width=40, pad_multiple=16)


def torch_resize(array: Any, height: int, width: int) -> Any:
    tensor = torch.from_numpy(np.ascontiguousarray(array))[None]
    return F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False, antialias=False)[0].numpy()


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, SEEDS)
def test_resize_equals_torch(rows: int, columns: int, height: int, width: int, seed: int) -> None:
    array = np.random.default_rng(seed).uniform(-2, 2, (3, rows, columns)).astype(np.float32)
    resized = resize_bilinear(array, height, width)
    assert resized.dtype == np.float32
    assert resized.shape == (3, height, width)
    np.testing.assert_allclose(resized, torch_resize(array, height, width), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 3, 11]), st.integers(256, 4096), st.integers(1, 4096), SEEDS)
def test_resize_equals_torch_on_wide_images(channels: int, columns: int, width: int, seed: int) -> None:
    array = np.random.default_rng(seed).uniform(0, 1, (channels, 2, columns)).astype(np.float32)
    # torch's kernels round a coordinate once or twice: one last bit of it, times a slope of at most 1 per pixel.
    atol = 1e-5 + float(np.spacing(np.float32(columns)))
    np.testing.assert_allclose(resize_bilinear(array, 3, width), torch_resize(array, 3, width), rtol=0, atol=atol)


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(0, 60), st.integers(0, 60), st.integers(1, 33), SEEDS)
def test_prepare_equals_torch(rows: int, columns: int, height: int, width: int, multiple: int, seed: int) -> None:
    if 0 in (height, width):
        height = width = 0
    contract = Preprocessing(height=height, width=width, pad_multiple=multiple)
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    prepared = contract.prepare(image)
    size = contract.resized_size(rows, columns)
    resized = torch_resize(image.transpose(2, 0, 1).astype(np.float32), *size)
    expected = (resized / 255 - np.reshape(contract.mean, (3, 1, 1))) / np.reshape(contract.std, (3, 1, 1))
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous
    assert prepared.shape == (1, 3, *contract.network_size(rows, columns))
    assert all(side % multiple == 0 for side in prepared.shape[2:])
    np.testing.assert_allclose(prepared[0, :, : size[0], : size[1]], expected, rtol=0, atol=1e-5)
    assert not prepared[0, :, size[0] :].any()
    assert not prepared[0, :, :, size[1] :].any()


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(1, 33), SEEDS)
def test_labels_of_an_image_at_its_own_size_come_back(rows: int, columns: int, multiple: int, seed: int) -> None:
    contract = Preprocessing(height=0, width=0, pad_multiple=multiple)
    labels = np.random.default_rng(seed).integers(0, 5, (rows, columns), dtype=np.uint8)
    h, w = contract.network_size(rows, columns)
    logits = np.zeros((1, 5, h, w), dtype=np.float32)
    logits[0, :, :rows, :columns] = labels == np.arange(5)[:, None, None]
    logits[0, 4, rows:] = logits[0, 4, :, columns:] = 9.0  # what the padding says must not leak in
    restored = contract.restore_labels(logits, rows, columns)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, labels)


@given(SIDES, SIDES, SEEDS)
@settings(max_examples=25, deadline=None)
def test_restored_logits_are_cropped_then_resized(rows: int, columns: int, seed: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((1, 3, 32, 48)).astype(np.float32)
    expected = torch_resize(logits[0, :, :24, :40], rows, columns)
    restored = CONTRACT.restore_logits(logits, rows, columns)
    np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(CONTRACT.restore_labels(logits, rows, columns), restored.argmax(axis=0))


@pytest.mark.parametrize("shape", [(1, 2, 24, 40), (2, 2, 32, 48), (2, 32, 48), (1, 2, 48, 32)])
def test_logits_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ContractError, match="must have the shape"):
        CONTRACT.restore_logits(np.zeros(shape, dtype=np.float32), 100, 100)


def test_more_classes_than_bytes_are_refused() -> None:
    with pytest.raises(ContractError, match="256"):
        CONTRACT.restore_labels(np.zeros((1, 257, 32, 48), dtype=np.float32), 4, 4)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((3, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
    ids=str,
)
def test_other_images_are_refused(image: Any) -> None:
    with pytest.raises(ContractError, match="uint8"):
        CONTRACT.prepare(image)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 64), st.floats(1e-5, 1), st.floats(-5, 5))
def test_contract_survives_json(height: int, width: int, multiple: int, scale: float, mean: float) -> None:
    contract = Preprocessing(height, width, scale=scale, mean=(mean, 0.0, 1.0), pad_multiple=multiple)
    assert Preprocessing.from_json(json.loads(json.dumps(contract.to_json()))) == contract


@pytest.mark.parametrize("key", sorted(CONTRACT.to_json().keys() - RULES.keys()))
def test_missing_keys_are_named(key: str) -> None:
    values = CONTRACT.to_json()
    del values[key]
    with pytest.raises(ContractError, match=rf"missing keys .*{key}"):
        Preprocessing.from_json(values)


def test_a_contract_of_an_earlier_release_means_the_same() -> None:
    earlier = {name: value for name, value in CONTRACT.to_json().items() if name not in RULES}
    assert Preprocessing.from_json(earlier) == CONTRACT


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [None, True, 0, 1.5, "other", ["pad"], float("nan"), {}])
def test_a_rule_that_is_not_followed_is_refused(rule: str, value: object) -> None:
    if rule == "pad_value" and value == 0 and not isinstance(value, bool):
        assert Preprocessing.from_json({**CONTRACT.to_json(), rule: value}) == CONTRACT
        return
    with pytest.raises(ContractError, match=rule):
        Preprocessing.from_json({**CONTRACT.to_json(), rule: value})


def test_unknown_keys_are_named() -> None:
    with pytest.raises(ContractError, match=r"unknown keys .*gamma"):
        Preprocessing.from_json({**CONTRACT.to_json(), "gamma": 2.2})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("height", 0),
        ("height", -1),
        ("height", 24.0),
        ("height", True),
        ("width", 10**9),
        ("pad_multiple", 0),
        ("pad_multiple", "32"),
        ("resize", "nearest"),
        ("channel_order", "gbr"),
        ("layout", "NHWC"),
        ("dtype", "float16"),
        ("scale", 0),
        ("scale", float("nan")),
        ("scale", 10**400),
        ("scale", None),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, 0.5, float("inf")]),
        ("mean", 0.5),
        ("std", [1.0, 0.0, 1.0]),
        ("std", [1e-300, 1.0, 1.0]),
        ("std", ["1", "1", "1"]),
        ("std", {"r": 1, "g": 1, "b": 1}),
    ],
)
def test_other_values_are_refused(key: str, value: object) -> None:
    with pytest.raises(ContractError, match=key):
        Preprocessing.from_json({**CONTRACT.to_json(), key: value})


@pytest.mark.parametrize("values", [[], None, 3, "text"])
def test_only_an_object_is_a_contract(values: Any) -> None:
    with pytest.raises(ContractError, match="JSON object"):
        Preprocessing.from_json(values)


def test_contract_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(CONTRACT.to_json()))
    assert read_contract(path) == CONTRACT


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b" " * (1 << 17), b"[]"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_bytes(content)
    with pytest.raises(ContractError):
        read_contract(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"absent\.json"):
        read_contract(tmp_path / "absent.json")
