"""Labels that are lost on the way in show in the counts, and stop a training."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from prunekit.data.dataset import ClassMap, Sample
from prunekit.data.folder import FolderDataset
from prunekit.data.labels.counts import SAMPLE, LabelCounts, check_labels, count_labels, label_report
from prunekit.data.registry import open_dataset
from prunekit.data.shapes import ShapesDataset
from prunekit.errors import DataError
from prunekit.recipe import DataConfig


class Own:
    """A data set that does not count by itself; counts how often each sample is asked for."""

    classes = ClassMap(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))

    def __init__(self, labels):
        self.labels, self.asked = labels, []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.asked.append(index)
        labels = torch.from_numpy(self.labels[index])
        return Sample(torch.zeros(3, *labels.shape, dtype=torch.uint8), labels, str(index))


MASKS = st.lists(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.sampled_from([0, 1, 2, 255])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(MASKS)
def test_every_pixel_is_counted_once(masks):
    counts = count_labels(Own(masks))
    flat = np.concatenate([mask.ravel() for mask in masks])
    assert counts.pixels == tuple(int((flat == label).sum()) for label in range(3))
    assert counts.ignored == (flat == 255).sum()
    assert (counts.images, counts.counted) == (len(masks), len(masks))
    assert sum(counts.shares) + counts.ignored_share == pytest.approx(1)
    assert set(counts.absent) == {0, 1, 2} - set(flat.tolist())


def test_of_a_long_data_set_a_spread_sample_is_looked_at_once():
    dataset = Own([np.full((1, 1), index % 3, dtype=np.uint8) for index in range(5 * SAMPLE)])
    first = count_labels(dataset)
    assert count_labels(dataset) is first
    assert (first.images, first.counted) == (5 * SAMPLE, SAMPLE)
    assert dataset.asked == [5 * place for place in range(SAMPLE)]


def write(root, split, masks, classes="background\nobject\n"):
    (root / "classes.txt").write_text(classes)
    for number, mask in enumerate(masks):
        for part, pixels in (("images", np.zeros((*mask.shape, 3), dtype=np.uint8)), ("masks", mask)):
            (root / split / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / part / f"{number}.png")


def halves(left, right, share=0.5):
    mask = np.full((10, 20), left, dtype=np.uint8)
    mask[:, int(20 * (1 - share)) :] = right
    return mask


def check(root, split="train", **values):
    config = DataConfig(name="folder", root=str(root), **values)
    check_labels(open_dataset(config, split), split, config, training=split == "train")


def test_masks_of_0_and_255_alone_stop_with_the_setting_that_reads_them(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, split, [halves(0, 255, 0.25), halves(0, 0)])
        with pytest.raises(DataError, match=r"'object'.*--set data\.mask_values=0,255") as caught:
            check(tmp_path, split)
        assert "2 of 2 masks" in str(caught.value)
        check(tmp_path, split, allow_absent_classes=True)
        check(tmp_path, split, mask_values="0,255")
    labels = [sample.labels_HW.sum() for sample in FolderDataset(tmp_path, "train", mask_values=(0, 255))]
    assert labels == [50, 0]


def test_a_class_without_a_training_pixel_stops_a_training_and_no_evaluation(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, split, [halves(0, 2), halves(2, 2)], "road\nsky\ncar\nbus\n")
    with pytest.raises(DataError, match=r"no pixel is 'sky', 'bus'.*allow_absent_classes=true"):
        check(tmp_path)
    check(tmp_path, allow_absent_classes=True)
    check(tmp_path, "val")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("share", "stops"), [(0.45, False), (0.5, False), (0.55, True)])
def test_over_half_of_the_pixels_ignored_stops(tmp_path, split, share, stops):
    write(tmp_path, split, [halves(0, 255, share), halves(1, 255, share)])
    if stops:
        with pytest.raises(DataError, match=r"55\.0% of all pixels.*allow_mostly_ignored=true"):
            check(tmp_path, split)
        check(tmp_path, split, allow_mostly_ignored=True)
        with pytest.raises(DataError, match="55"):
            check(tmp_path, split, allow_absent_classes=True)  # one finding accepted does not hide another
    else:
        check(tmp_path, split)


def test_generated_scenes_are_counted_and_never_stopped():
    config = DataConfig(height=32, width=32, train_images=1, val_images=1)
    dataset = open_dataset(config, "train")
    assert count_labels(dataset).absent  # one tiny scene cannot show all
    check_labels(dataset, "train", config, training=True)


def test_a_sample_proves_no_absence():
    dataset = Own([np.full((1, 1), index % 2, dtype=np.uint8) for index in range(SAMPLE + 1)])
    config = DataConfig(name="folder", root="somewhere")
    check_labels(dataset, "train", config, training=True)
    with pytest.raises(DataError, match="'c'"):
        check_labels(Own(dataset.labels[:SAMPLE]), "train", config, training=True)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([0, 1, 255]), min_size=1, max_size=5))
def test_a_folder_knows_its_counts_without_being_read_again(tmp_path_factory, values):
    root = tmp_path_factory.mktemp("data")
    masks = [halves(value, 0, 0.1) for value in values]
    write(root, "train", masks)
    dataset = FolderDataset(root, "train")
    flat = np.concatenate([mask.ravel() for mask in masks])
    assert dataset.label_counts == count_labels(dataset)
    assert dataset.label_counts == LabelCounts(
        len(masks), len(masks), (int((flat == 0).sum()), int((flat == 1).sum())), int((flat == 255).sum())
    )


def test_a_report_is_plain_values():
    train, val = (ShapesDataset(split, 2, height=32, width=32) for split in ("train", "val"))
    report = label_report(train, val).to_json()
    assert report["format"] == 1
    assert len(report["classes"]) == len(report["train"]["pixels"]) == len(report["val"]["shares"])
    assert report["train"]["images"] == report["train"]["counted"] == 2
    assert sum(report["val"]["pixels"]) + report["val"]["ignored"] == 2 * 32 * 32
