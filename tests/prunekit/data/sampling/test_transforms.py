import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.data.dataset import IGNORE_INDEX, Sample
from prunekit.data.shapes import ShapesDataset
from prunekit.data.transforms import (
    EvalTransform,
    TrainTransform,
    contract_of,
    draw_seed,
    resize_image,
    resize_labels,
    resize_sample,
)
from prunekit.recipe import IMAGENET_MEAN, IMAGENET_STD, DataConfig

SIDES = st.integers(1, 60)


def random_image(height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def denormalised(image_3hw):
    return image_3hw * torch.tensor(IMAGENET_STD).view(3, 1, 1) + torch.tensor(IMAGENET_MEAN).view(3, 1, 1)


@settings(max_examples=60, deadline=None)
@given(rows=SIDES, columns=SIDES, height=st.integers(32, 70), width=st.integers(32, 70), multiple=st.integers(1, 32))
def test_evaluation_sees_what_the_device_sees(rows, columns, height, width, multiple):
    image_3HW = random_image(rows, columns, seed=rows * 100 + columns)
    contract = contract_of(DataConfig(height=height, width=width), multiple)
    expected = contract.prepare(np.ascontiguousarray(image_3HW.permute(1, 2, 0).numpy()))[0]
    prepared = EvalTransform(contract)(image_3HW).numpy()
    assert prepared.shape == expected.shape
    assert np.abs(prepared - expected).max() < 2e-5


def test_evaluation_at_the_images_own_size_equals_the_device():
    contract = dataclasses.replace(contract_of(DataConfig(), 16), height=0, width=0)
    image_3HW = random_image(37, 45)
    expected = contract.prepare(np.ascontiguousarray(image_3HW.permute(1, 2, 0).numpy()))[0]
    np.testing.assert_allclose(EvalTransform(contract)(image_3HW).numpy(), expected, atol=2e-5)


CAFFE = {"channels": "bgr", "pixel_scale": 1.0, "mean": (103.53, 116.28, 123.675), "std": (57.4, 57.1, 58.4)}


@pytest.mark.parametrize(
    "own", [CAFFE, {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.125)}, {"pixel_scale": "1/127.5"}]
)
def test_a_preprocessing_of_one_s_own_is_the_same_in_training_evaluation_and_on_the_device(own):
    config = DataConfig(height=40, width=48, flip=0, colour=0, scale_min=1, scale_max=1, **own)
    contract = contract_of(config)
    image_3HW = random_image(40, 48)
    expected = contract.prepare(np.ascontiguousarray(image_3HW.permute(1, 2, 0).numpy()))[0]
    trained, _ = TrainTransform(config)(image_3HW, torch.zeros(40, 48, dtype=torch.uint8), 0)
    np.testing.assert_allclose(EvalTransform(contract)(image_3HW), expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(trained, expected, rtol=1e-5, atol=2e-5)


def test_bgr_is_written_out():
    config = DataConfig(height=32, width=32, **CAFFE)
    prepared = contract_of(config).prepare(np.full((32, 32, 3), (10, 20, 30), dtype=np.uint8))
    np.testing.assert_allclose(
        prepared[0, :, 0, 0], [(30 - 103.53) / 57.4, (20 - 116.28) / 57.1, (10 - 123.675) / 58.4]
    )


def test_what_lies_beyond_a_sample_is_the_mean_colour_in_any_order():
    config = DataConfig(height=96, width=96, flip=0, colour=0, scale_min=0.5, scale_max=0.5, **CAFFE)
    image, labels = TrainTransform(config)(random_image(96, 96), torch.zeros(96, 96, dtype=torch.uint8), 0)
    beyond = image[:, labels == IGNORE_INDEX]
    assert beyond.numel()
    assert beyond.abs().max() < 0.01  # half a step of a pixel


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), height=SIDES, width=SIDES)
def test_labels_come_from_the_nearest_pixel_centre(rows, columns, height, width):
    labels_HW = torch.arange(rows * columns).remainder(251).to(torch.uint8).view(rows, columns)
    row_h = ((torch.arange(height).double() + 0.5) * rows / height).floor().long().clamp(max=rows - 1)
    column_w = ((torch.arange(width).double() + 0.5) * columns / width).floor().long().clamp(max=columns - 1)
    resized = resize_labels(labels_HW, height, width)
    differing = (resized != labels_HW[row_h][:, column_w]).sum()
    # A centre that falls on a pixel's edge may go either way in float32.
    on_edge = sum(
        ((index + 0.5) * old / new) % 1 == 0 for old, new in ((rows, height), (columns, width)) for index in range(new)
    )
    assert differing == 0 or on_edge


def test_an_image_at_the_right_size_is_untouched():
    sample = ShapesDataset("train", 1, height=40, width=48)[0]
    assert resize_sample(sample, 40, 48) is sample


def test_resizing_uint8_rounds_what_the_contract_computes():
    image_3HW = random_image(20, 30)
    floats = resize_image(image_3HW.float(), 33, 17)
    assert (resize_image(image_3HW, 33, 17).float() - floats).abs().max() <= 0.5


def coded_sample(height=48, width=64):
    """A sample whose red channel is its label times 40, in blocks of 8, so that geometry can be checked."""
    blocks = torch.from_numpy(np.random.default_rng(3).integers(0, 6, (height // 8, width // 8), dtype=np.uint8))
    labels_HW = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
    return Sample((labels_HW * 40)[None].expand(3, -1, -1).contiguous(), labels_HW, "coded")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**62), crop=st.tuples(st.integers(16, 100), st.integers(16, 100)), axis=st.integers(0, 1))
def test_image_and_labels_move_together(seed, crop, axis):
    config = DataConfig(
        height=48, width=64, crop_height=crop[0], crop_width=crop[1], colour=0.0, scale_min=0.6, scale_max=2
    )
    # Each pixel's label is its row or column, each pixel's colour three times that.
    labels_HW = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")[axis].to(torch.uint8)
    image_3hw, labels_hw = TrainTransform(config)((3 * labels_HW)[None].expand(3, -1, -1), labels_HW, seed)
    assert image_3hw.shape == (3, *crop)
    assert labels_hw.shape == crop
    counted = labels_hw != IGNORE_INDEX
    off_px = (denormalised(image_3hw)[0] * 255 / 3 - labels_hw).abs()[counted]
    # Half a pixel between the label's nearest centre and the interpolated colour, and colours rounded to thirds.
    assert counted.any()
    assert off_px.max() <= 0.5 + 0.5 / 3 + 1e-4


def test_scaling_by_two_mixes_only_the_pixels_beside_an_edge():
    config = DataConfig(
        height=48, width=64, crop_height=96, crop_width=128, colour=0.0, scale_min=2, scale_max=2, flip=0
    )
    sample = coded_sample()
    image_3hw, labels_hw = TrainTransform(config)(sample.image_3HW, sample.labels_HW, 1)
    wrong = ((denormalised(image_3hw)[0] * 255 / 40).round() != labels_hw).float()
    inner = torch.zeros(16, dtype=torch.bool)
    inner[1:-1] = True
    keep = inner.repeat(6)[:, None] & inner.repeat(8)[None]
    assert wrong[keep].sum() == 0


def test_a_crop_beyond_the_image_is_ignored_and_shows_the_mean_colour():
    config = DataConfig(height=48, width=64, scale_min=0.5, scale_max=0.5, colour=0.2)
    sample = coded_sample()
    image_3hw, labels_hw = TrainTransform(config)(sample.image_3HW, sample.labels_HW, 4)
    outside = labels_hw == IGNORE_INDEX
    assert outside.sum() == 48 * 64 - 24 * 32
    assert image_3hw[:, outside].abs().max() < 0.02


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_without_randomness_only_the_flip_is_left(flip):
    config = DataConfig(height=48, width=64, scale_min=1, scale_max=1, colour=0.0, flip=flip)
    sample = coded_sample()
    image_3hw, labels_hw = TrainTransform(config)(sample.image_3HW, sample.labels_HW, 9)
    expected = EvalTransform(contract_of(config))(sample.image_3HW)
    torch.testing.assert_close(image_3hw, expected.flip(-1) if flip else expected, atol=1e-5, rtol=0)
    assert torch.equal(labels_hw, (sample.labels_HW.flip(-1) if flip else sample.labels_HW).long())


def test_a_view_depends_on_its_seed_only_and_leaves_the_global_state():
    sample, transform = coded_sample(), TrainTransform(DataConfig(height=48, width=64))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = transform(sample.image_3HW, sample.labels_HW, 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again, other = (transform(sample.image_3HW, sample.labels_HW, seed) for seed in (5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_near_keys_give_unrelated_seeds():
    seeds = {draw_seed(*key) for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 0), (0, 0, 2)]}
    assert len(seeds) >= 5  # SeedSequence may treat trailing zeros alike
