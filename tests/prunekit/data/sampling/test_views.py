import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.loading import epoch_views
from prunekit.data.registry import open_dataset
from prunekit.data.sampling import ViewClasses, views_of_epoch, views_of_steps
from prunekit.data.transforms import TrainTransform
from prunekit.recipe import DataConfig


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    sides=st.tuples(st.integers(33, 70), st.integers(33, 70)),
    crop=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    colour=st.sampled_from([0.0, 0.2]),
)
def test_a_window_is_where_its_view_is_drawn(seed, sides, crop, colour):
    config = DataConfig(height=sides[0], width=sides[1], crop_height=crop[0], crop_width=crop[1], colour=colour, flip=0)
    transform = TrainTransform(config)
    window = transform.window(*sides, seed)
    for axis, (start, end, scale) in enumerate(
        [(window.top, window.bottom, window.scale_y), (window.left, window.right, window.scale_x)]
    ):
        side = sides[axis]
        ramp = torch.arange(side, dtype=torch.uint8)
        labels = (ramp[:, None] if axis == 0 else ramp[None, :]).expand(sides).contiguous()
        _, drawn = transform(torch.zeros(3, *sides, dtype=torch.uint8), labels, seed)
        seen = drawn[drawn != IGNORE_INDEX]
        scaled = round(scale * side)
        first, last = round(start * scaled), round(end * scaled) - 1
        assert int(seen.min()) == int((first + 0.5) * side / scaled)
        assert int(seen.max()) == min(int((last + 0.5) * side / scaled), side - 1)
        shown = (drawn != IGNORE_INDEX).any(dim=1 - axis).sum()
        assert int(shown) == last - first + 1


def test_drawing_a_window_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    TrainTransform(DataConfig()).window(128, 192, 5)
    assert torch.equal(before, torch.get_rng_state())


def test_the_shares_of_a_view_are_those_of_its_labels():
    config = DataConfig(height=96, width=128, crop_height=64, crop_width=64, train_images=4)
    data = open_dataset(config, "train")
    classes, transform = ViewClasses(data, config, workers=0, cache=False), TrainTransform(config)
    off = []
    for key in epoch_views(len(data), 0, 0):
        sample = data[key.index]
        _, labels = transform(sample.image_3HW, sample.labels_HW, key.seed)
        exact_K = np.bincount(labels.numpy().ravel(), minlength=256)[: len(data.classes)] / labels.numel()
        off.append(np.abs(classes.share(key) - exact_K).max())
    assert max(off) < 0.05


def test_views_go_on_after_a_pass_in_other_views():
    keys = list(itertools.islice(views_of_epoch(5, 0, 2), 15))
    assert keys[:5] == epoch_views(5, 0, 2)
    assert [sorted(key.index for key in keys[first : first + 5]) for first in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert len({key.seed for key in keys}) == 15


@pytest.mark.parametrize(("first", "last"), [(0, 3), (2, 5), (3, 3), (1, 9)])
def test_steps_run_through_whole_passes(first, last):
    whole = [batch for number in range(3) for batch in views_of_steps(7, 2, 0, 3 * number, 3 * number + 3)]
    assert views_of_steps(7, 2, 0, first, last) == whole[first:last]
    assert [batch[0] for batch in whole[3:6]] == epoch_views(7, 0, 1)[0:6:2]
