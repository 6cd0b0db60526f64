"""What is seen of samples: unknown values, smoothed masks, and a choice that shows every class."""

import numpy as np
import pytest
from PIL import Image

from prunekit.data.checking.choice import LEAST, MOST, choose
from prunekit.data.checking.seen import Fault, Seen, is_smoothed
from prunekit.data.dataset import ClassMap
from prunekit.data.labels.class_list import ClassList, made_up_palette
from prunekit.data.labels.masks import read_mask, unknown_values
from prunekit.data.shapes import ShapesDataset
from prunekit.errors import DataError


def class_list(count, **how):
    names = tuple(f"class {place}" for place in range(count))
    return ClassList(ClassMap(names, made_up_palette(count)), coloured=True, **how)


@pytest.mark.drawn(25)
def test_unknown_numbers_are_those_that_the_reader_refuses(tmp_path, seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    values = tuple(rng.choice(12, count, replace=False).tolist()) if rng.random() < 0.5 else ()
    known = {*(values or range(count)), 255}
    mask = rng.choice([*range(12), 255], (9, 7)).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    numbers, pixels = np.unique(mask, return_counts=True)
    wanted = {int(n): int(p) for n, p in zip(numbers, pixels, strict=True) if int(n) not in known}
    listed = class_list(count, values=values)
    assert unknown_values(tmp_path / "mask.png", listed) == wanted
    if wanted:
        with pytest.raises(DataError):
            read_mask(tmp_path / "mask.png", listed)
    else:
        read_mask(tmp_path / "mask.png", listed)


@pytest.mark.drawn(25)
def test_unknown_colours_are_those_that_the_reader_refuses(tmp_path, seed):
    rng = np.random.default_rng(seed)
    colours = np.array(made_up_palette(6), dtype=np.uint8)
    mask = rng.integers(0, int(rng.integers(2, 7)), (9, 7))
    Image.fromarray(colours[mask]).save(tmp_path / "mask.png")
    names = tuple("abcd")
    listed = ClassList(ClassMap(names, tuple(map(tuple, colours[:4].tolist()))), coloured=True)
    wanted = {tuple(colours[place].tolist()): int((mask == place).sum()) for place in (4, 5) if (mask == place).any()}
    assert unknown_values(tmp_path / "mask.png", listed) == wanted


@pytest.mark.drawn(12)
def test_drawn_labels_are_not_smoothed_until_they_are_resized_linearly(seed):
    labels = ShapesDataset("train", 1, height=96, width=160, seed=seed)[0].labels_HW.numpy()
    assert not is_smoothed(labels)
    double = Image.fromarray(labels).resize((320, 192), Image.Resampling.NEAREST)
    assert not is_smoothed(np.array(double))
    assert is_smoothed(np.array(double.resize((250, 150), Image.Resampling.BILINEAR)))


def test_labels_of_any_shape_can_be_asked():
    for shape in ((1, 1), (1, 2), (5, 1), (2, 3)):
        assert not is_smoothed(np.zeros(shape, dtype=np.uint8))


@pytest.mark.drawn(20)
def test_the_chosen_samples_show_every_class_that_occurs(seed):
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(1, 12)), int(rng.integers(1, 60))
    seen = {"train": [], "val": []}
    for _ in range(count):
        shares = rng.random(classes) ** 6 * (rng.random(classes) < 0.4)
        labels = {label: int(10_000 * share) + 1 for label, share in enumerate(shares) if share} | {255: 500}
        fault = (Fault("sizes", ""),) if rng.random() < 0.1 else ()
        seen[str(rng.choice(["train", "val"]))].append(Seen("a", labels=labels, faults=fault))
    good = [one for ones in seen.values() for one in ones if not one.faults]
    chosen = choose(seen, classes)
    picked = [seen[choice.split][choice.index] for choice in chosen]
    assert len({(choice.split, choice.index) for choice in chosen}) == len(chosen)
    assert min(LEAST, len(good)) <= len(chosen) <= MOST
    assert all(one in good for one in picked)
    occurring = {label for one in good for label in one.labels if label < classes}
    assert {label for one in picked for label in one.labels if label < classes} == occurring
    assert all(label in one.labels for choice, one in zip(chosen, picked, strict=True) for label in choice.shows)


def test_without_samples_nothing_is_chosen():
    assert choose({"train": [Seen("a", faults=(Fault("mask", ""),))]}, 3) == []
