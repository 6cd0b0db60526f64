import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.scenes.labels import CLASSES, Label
from prunekit.data.shapes import ShapesDataset
from prunekit.errors import DataError


def scenes(split="train", count=8, height=40, width=56, seed=0):
    return ShapesDataset(split, count, height=height, width=width, seed=seed)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(16, 90), width=st.integers(16, 90), seed=st.integers(0, 2**40), index=st.integers(0, 7))
def test_any_size_gives_valid_labels_and_the_same_scene_twice(height, width, seed, index):
    first, second = (scenes(height=height, width=width, seed=seed)[index] for _ in range(2))
    assert first.image_3HW.shape == (3, height, width)
    assert set(first.labels_HW.unique().tolist()) <= {*range(len(CLASSES)), IGNORE_INDEX}
    assert torch.equal(first.image_3HW, second.image_3HW)
    assert torch.equal(first.labels_HW, second.labels_HW)


def test_a_scene_does_not_depend_on_the_count_or_on_what_was_asked_before():
    few, many = scenes(count=3), scenes(count=300)
    _ = [many[index] for index in (7, 1, 200)]
    assert torch.equal(few[2].image_3HW, many[2].image_3HW)


def test_splits_seeds_and_positions_show_different_scenes():
    samples = [scenes()[0], scenes()[1], scenes(split="val")[0], scenes(split="test")[0], scenes(seed=1)[0]]
    assert len({sample.image_3HW.numpy().tobytes() for sample in samples}) == len(samples)
    assert len({sample.name for sample in samples}) == 4  # the seed is not in the name


def test_classes_are_long_tailed_as_in_real_streets():
    dataset = scenes(count=60, height=64, width=96)
    labels = [dataset[index].labels_HW.numpy().ravel() for index in range(len(dataset))]
    shares = np.bincount(np.concatenate(labels), minlength=256) / sum(part.size for part in labels)
    assert (shares[: len(CLASSES)] > 0).all()
    assert shares[Label.ROAD] > 0.2
    assert 0.02 > shares[Label.POLE] > shares[Label.SIGN] > 0.0002
    assert 0.002 < shares[Label.PEDESTRIAN] < 0.03


def test_colour_alone_does_not_tell_the_class():
    dataset = scenes(count=30, height=48, width=64)
    samples = [dataset[index] for index in range(len(dataset))]
    greys = [sample.image_3HW.float().mean(0)[sample.labels_HW == Label.ROAD].mean() for sample in samples]
    assert torch.stack(greys).std() > 10


def test_the_end_of_the_data_set_ends_a_loop():
    assert len(list(scenes(count=3))) == 3
    with pytest.raises(IndexError):
        scenes(count=3)[-1]


@pytest.mark.parametrize("values", [{"count": 0}, {"height": 8}, {"width": 100_000}])
def test_impossible_sizes_are_refused(values):
    with pytest.raises(DataError, match=r"data\."):
        scenes(**values)
