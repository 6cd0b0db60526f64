import dataclasses
import gc
import weakref

import pytest
import torch

from prunekit.data import loading
from prunekit.data.dataset import ClassMap, Sample
from prunekit.data.loading import Batch, eval_batches, steps_per_epoch, train_batches
from prunekit.data.shapes import ShapesDataset
from prunekit.data.transforms import EvalTransform, contract_of
from prunekit.errors import DataError
from prunekit.recipe import DataConfig

CONFIG = DataConfig(height=32, width=40, crop_height=24, crop_width=32)


class Counted:
    """Scenes larger than the network's input; counts how often each is made."""

    def __init__(self, count=7, bad=None):
        self._scenes = ShapesDataset("train", count, height=40, width=48)
        self.classes = self._scenes.classes
        self.made = []
        self.bad = bad

    def __len__(self):
        return len(self._scenes)

    def __getitem__(self, index):
        if index == self.bad:
            raise DataError("photo.jpg is damaged. Replace it.")
        self.made.append(index)
        return self._scenes[index]


def epoch(dataset, number=0, **options):
    return list(train_batches(dataset, CONFIG, **{"batch_size": 2, "seed": 3, "epoch": number, **options}))


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.images_B3HW, two.images_B3HW)
        and torch.equal(one.labels_BHW, two.labels_BHW)
        and torch.equal(one.indices_B, two.indices_B)
        for one, two in zip(first, second, strict=True)
    )


def test_a_batch_has_the_promised_types_and_shapes():
    for batch in epoch(Counted()):
        assert batch.images_B3HW.shape == (2, 3, 24, 32)
        assert batch.images_B3HW.dtype == torch.float32
        assert batch.labels_BHW.shape == (2, 24, 32)
        assert batch.labels_BHW.dtype == batch.indices_B.dtype == torch.int64


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_depends_on_neither_workers_cache_nor_the_global_state(workers, cache):
    expected = epoch(Counted(), 4)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert same(epoch(Counted(), 4, workers=workers, cache=cache), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_differ_in_order_and_views():
    dataset = Counted()
    assert not same(epoch(dataset, 0), epoch(dataset, 1))
    assert not same(epoch(dataset, 0), epoch(dataset, 0, seed=4))


def test_each_sample_comes_at_most_once_and_the_partial_batch_is_dropped():
    indices = torch.cat([batch.indices_B for batch in epoch(Counted())]).tolist()
    assert len(indices) == len(set(indices)) == 6
    assert steps_per_epoch(Counted(), 2) == 3


def test_all_samples_come_over_the_epochs():
    seen = {index for number in range(8) for batch in epoch(Counted(), number) for index in batch.indices_B.tolist()}
    assert seen == set(range(7))


def test_too_few_images_for_a_batch_are_refused_at_once():
    with pytest.raises(DataError, match="batch_size"):
        train_batches(Counted(), CONFIG, batch_size=8, seed=0, epoch=0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_an_unreadable_image_gives_its_own_sentence(workers, cache):
    with pytest.raises(DataError) as caught:
        epoch(Counted(count=2, bad=1), workers=workers, cache=cache)
    assert str(caught.value) == "photo.jpg is damaged. Replace it."


def test_the_cache_makes_each_sample_once_and_goes_with_the_data_set():
    dataset = Counted()
    for number in range(5):
        epoch(dataset, number, cache=True)
    assert sorted(dataset.made) == list(range(7))
    gone = weakref.ref(dataset)
    del dataset
    gc.collect()
    assert gone() is None


def test_a_cache_beyond_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(loading, "_MEMORY_SHARE", 1e-12)
    with pytest.raises(DataError, match=r"train\.cache = false"):
        epoch(Counted(), cache=True)


class Mixed:
    """Images of two sizes."""

    classes = ClassMap(("a",), ((0, 0, 0),))
    sizes = ((20, 30), (20, 30), (20, 30), (30, 20), (30, 20))

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        size = self.sizes[index]
        image = torch.full((3, *size), index, dtype=torch.uint8)
        return Sample(image, torch.full(size, index, dtype=torch.uint8), str(index))


def test_evaluation_gives_every_sample_once_in_order_with_labels_as_they_are():
    batches = list(eval_batches(Mixed(), contract_of(CONFIG, 16), batch_size=2))
    assert [batch.indices for batch in batches] == [[0, 1], [2, 3], [4]]
    assert all(batch.images_B3HW.shape[1:] == (3, 32, 48) for batch in batches)
    labels = [label for batch in batches for label in batch.labels]
    assert [tuple(label.shape) for label in labels] == list(Mixed.sizes)
    assert all(label.dtype == torch.int64 and (label == index).all() for index, label in enumerate(labels))


def test_evaluation_at_own_size_never_mixes_sizes_in_a_batch():
    contract = dataclasses.replace(contract_of(CONFIG), height=0, width=0)
    batches = list(eval_batches(Mixed(), contract, batch_size=4))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [3, 4]]
    expected = EvalTransform(contract)(Mixed()[3].image_3HW)
    assert torch.equal(batches[1].images_B3HW[0], expected)
