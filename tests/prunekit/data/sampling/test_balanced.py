import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.data.balanced import Draw, balanced_draws, focus_of, present_classes
from prunekit.data.dataset import ClassMap, Sample
from prunekit.data.loading import train_batches
from prunekit.data.shapes import ShapesDataset
from prunekit.data.transforms import FOCUS_JITTER, TrainTransform
from prunekit.errors import DataError
from prunekit.recipe import DataConfig

CONFIG = DataConfig(height=32, width=40, crop_height=16, crop_width=24, sampler="balanced")


@st.composite
def presence(draw):
    samples, classes = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    flags = draw(st.lists(st.booleans(), min_size=samples * classes, max_size=samples * classes))
    return torch.tensor(flags).view(samples, classes)


@given(presence(), st.integers(0, 40), st.integers(0, 3), st.integers(0, 3))
def test_every_class_that_occurs_is_drawn_equally_often_from_samples_that_show_it(present, count, seed, epoch):
    if not present.any():
        with pytest.raises(DataError, match="belongs to a class"):
            balanced_draws(present, count, seed, epoch)
        return
    draws = balanced_draws(present, count, seed, epoch)
    assert len(draws) == count
    assert draws == balanced_draws(present, count, seed, epoch)
    assert all(present[draw.index, draw.label] for draw in draws)
    occurring = present.any(dim=0).nonzero().flatten().tolist()
    for label in range(present.shape[1]):
        indices = [draw.index for draw in draws if draw.label == label]
        assert len(indices) in ({count // len(occurring), -(-count // len(occurring))} if label in occurring else {0})
        times = [indices.count(index) for index in present[:, label].nonzero().flatten().tolist()]
        assert not times or max(times) - min(times) <= 1  # in turns


def test_the_seed_and_the_epoch_change_the_draws():
    present = torch.ones(6, 4, dtype=torch.bool)
    one = balanced_draws(present, 24, 0, 0)
    assert one != balanced_draws(present, 24, 1, 0)
    assert one != balanced_draws(present, 24, 0, 1)


def test_ignored_pixels_are_no_class():
    labels = torch.tensor([[0, 255], [2, 255]], dtype=torch.uint8)
    assert present_classes(labels, 4).tolist() == [True, False, True, False]


def test_each_region_of_a_class_is_the_focus_in_its_turn():
    labels = torch.zeros(20, 30, dtype=torch.uint8)
    labels[2:5, 3:10] = labels[10, 20] = labels[18:, 28:] = 3
    centres = {(3.5 / 20, 6.5 / 30), (10.5 / 20, 20.5 / 30), (18.5 / 20, 28.5 / 30)}
    assert {focus_of(labels, 3, seed) for seed in range(40)} == centres


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(0, 99))
def test_the_focus_is_in_the_crop_and_near_its_centre_where_the_border_lets_it(height, width, down, across, seed):
    row, column = int(down * height), int(across * width)
    labels = torch.zeros(height, width, dtype=torch.uint8)
    labels[row, column] = 1
    config = CONFIG.model_copy(update={"scale_min": 1.0, "scale_max": 1.0, "flip": 0.0, "colour": 0.0})
    focus = ((row + 0.5) / height, (column + 0.5) / width)
    image, view = TrainTransform(config)(torch.zeros(3, height, width, dtype=torch.uint8), labels, seed, focus)
    assert (image.shape, view.shape) == ((3, 16, 24), (16, 24))
    found = (view == 1).nonzero()
    assert found.shape == (1, 2)
    assert (view != 255).sum() == min(height, 16) * min(width, 24)  # as much of the sample as a window can show
    for place, side, length, start in zip(found[0].tolist(), (16, 24), (height, width), (row, column), strict=True):
        if side <= start <= length - side:  # far from the border
            assert abs(place + 0.5 - side / 2) <= FOCUS_JITTER * side + 0.5


class Rare:
    """Eight samples of class 0; one of them has one pixel of class 1, another one of class 2."""

    classes = ClassMap(("road", "sign", "pole", "absent"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index >= 8:
            raise IndexError(index)
        labels = torch.zeros(32, 40, dtype=torch.uint8)
        labels[index, 30] = {3: 1, 5: 2}.get(index, 0)
        return Sample(torch.zeros(3, 32, 40, dtype=torch.uint8), labels, str(index))


def epoch(dataset, number=0, **options):
    return list(train_batches(dataset, CONFIG, **{"batch_size": 3, "seed": 3, "epoch": number, **options}))


def test_rare_classes_come_as_often_as_common_ones_and_lie_in_their_crop():
    config = CONFIG.model_copy(update={"scale_min": 1.0, "scale_max": 1.0})
    batches = list(train_batches(Rare(), config, batch_size=3, seed=0, epoch=0))
    drawn = torch.cat([batch.drawn_B for batch in batches])
    indices = torch.cat([batch.indices_B for batch in batches])
    assert torch.bincount(drawn, minlength=4).tolist() == [2, 2, 2, 0]
    assert set(indices[drawn == 1].tolist()) == {3}
    assert set(indices[drawn == 2].tolist()) == {5}
    for batch in batches:
        for labels, label in zip(batch.labels_BHW, batch.drawn_B, strict=True):
            assert (labels == label).any()


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_depends_on_neither_workers_cache_nor_the_global_state(workers, cache):
    expected = epoch(ShapesDataset("train", 7, height=40, width=48), 4)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    got = epoch(ShapesDataset("train", 7, height=40, width=48), 4, workers=workers, cache=cache)
    assert len(got) == len(expected) == 2
    for one, two in zip(got, expected, strict=True):
        for name in ("images_B3HW", "labels_BHW", "indices_B", "drawn_B"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_drawn_twice_is_seen_in_two_views():
    config = CONFIG.model_copy(update={"flip": 0.0, "colour": 0.0})
    batch = next(train_batches(Rare(), config, batch_size=8, seed=0, epoch=0))
    twice = [image for image, label in zip(batch.labels_BHW, batch.drawn_B, strict=True) if label == 1]
    assert len(twice) >= 2
    assert not torch.equal(twice[0], twice[1])


def test_the_labels_are_looked_at_once_for_all_epochs():
    class Counting(Rare):
        made = 0

        def __getitem__(self, index):
            type(self).made += 1
            return super().__getitem__(index)

    dataset = Counting()
    for number in range(3):
        epoch(dataset, number, batch_size=8)
    assert Counting.made == 8 + 3 * 8  # one look at each, then the epochs' own


def test_images_are_drawn_unless_classes_are_asked_for():
    batches = list(train_batches(Rare(), DataConfig(height=32, width=40), batch_size=2, seed=0, epoch=0))
    assert all(batch.drawn_B is None for batch in batches)
    assert sorted(torch.cat([batch.indices_B for batch in batches]).tolist()) == list(range(8))


def test_a_draw_is_plain_values():
    assert balanced_draws(torch.ones(1, 1, dtype=torch.bool), 1, 0, 0) == [Draw(0, 0)]
