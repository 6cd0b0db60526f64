"""Data sets with files and without are looked at alike."""

import numpy as np
import pytest
from PIL import Image

from prunekit.data.checking import check as module
from prunekit.data.checking.check import check_data
from prunekit.data.checking.comparing import normalised_by
from prunekit.data.registry import open_dataset
from prunekit.errors import DataError
from prunekit.recipe import DataConfig


@pytest.mark.parametrize("name", ["folder", "camvid"])
def test_files_and_samples_of_a_data_set_give_the_same_report(request, monkeypatch, name):
    config = DataConfig(name=name, root=str(request.getfixturevalue(f"{name}_root")))
    files = check_data(config).report
    monkeypatch.setattr(module, "SOURCES", {})
    samples = check_data(config).report
    for one, other in zip(files.splits, samples.splits, strict=True):
        assert (one.split, one.samples, one.labels) == (other.split, other.samples, other.labels)
        assert (one.mean, one.std, one.images_by_class) == (other.mean, other.std, other.images_by_class)
        assert (one.image_sizes, one.mask_sizes) == (other.image_sizes, other.mask_sizes)
    kinds = [{found.kind for found in report.findings if found.level == "mend"} for report in (files, samples)]
    assert kinds[0] == kinds[1]


def test_counts_are_those_of_the_open_data_set_and_progress_is_told(folder_root):
    config = DataConfig(name="folder", root=str(folder_root))
    told = []
    report = check_data(config, lambda done, total: told.append((done, total))).report
    for split in report.splits:
        assert split.labels == open_dataset(config, split.split).label_counts
    assert told == [(done, 6) for done in range(1, 7)]


def test_mean_and_deviation_are_those_of_all_pixels_together(folder_root):
    report = check_data(DataConfig(name="folder", root=str(folder_root))).report
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in (folder_root / "train/images").iterdir()]
    together = np.concatenate([one.reshape(-1, 3) for one in pixels])
    assert report.splits[0].mean == pytest.approx(together.mean(axis=0))
    assert report.splits[0].std == pytest.approx(together.std(axis=0))


def test_a_split_that_cannot_be_opened_is_a_finding(folder_root, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", {})
    (folder_root / "val/masks/val_0.png").write_bytes(b"")
    report = check_data(DataConfig(name="folder", root=str(folder_root))).report
    assert [(found.level, found.split) for found in report.findings if found.kind == "cannot_be_opened"] == [
        ("mend", "val"),
        ("look", "test"),
    ]
    (folder_root / "train/masks/train_0.png").write_bytes(b"")
    with pytest.raises(DataError, match="train_0"):
        check_data(DataConfig(name="folder", root=str(folder_root)))


def test_what_the_recipe_normalises_by_is_shown_as_red_green_blue():
    rgb = DataConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    bgr = DataConfig(mean=(0.3, 0.2, 0.1), std=(0.7, 0.6, 0.5), channels="bgr")
    unscaled = DataConfig(mean=(25.5, 51.0, 76.5), std=(127.5, 153.0, 178.5), pixel_scale=1)
    for config in (rgb, bgr, unscaled):
        mean, std = normalised_by(config)
        assert mean == pytest.approx((25.5, 51.0, 76.5))
        assert std == pytest.approx((127.5, 153.0, 178.5))


def test_a_recipe_of_other_images_is_noticed(folder_root):
    config = DataConfig(name="folder", root=str(folder_root), mean=(0.485, 0.456, 0.406), pixel_scale=1)
    assert "normalisation" in {found.kind for found in check_data(config).report.findings}
    usual = DataConfig(name="folder", root=str(folder_root))
    assert "normalisation" not in {found.kind for found in check_data(usual).report.findings}


def test_a_folder_without_a_validation_split_lacks_one(folder_root):
    (folder_root / "val").rename(folder_root / "validation")
    report = check_data(DataConfig(name="folder", root=str(folder_root))).report
    assert [found.kind for found in report.to_mend] == ["missing_split"]
