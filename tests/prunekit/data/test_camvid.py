import shutil

import numpy as np
import pytest
from PIL import Image

from prunekit.data.camvid import CLASSES, CamVidDataset
from prunekit.data.dataset import IGNORE_INDEX
from prunekit.errors import DataError


def test_void_is_ignored_and_the_rest_is_kept(camvid_root):
    dataset = CamVidDataset(camvid_root, "train")
    stored = np.array(Image.open(camvid_root / "trainannot" / "train_1.png"))
    labels = dataset[1].labels_HW.numpy()
    assert [dataset[index].name for index in range(len(dataset))] == [f"train_{number}" for number in range(5)]
    assert (labels[stored == 11] == IGNORE_INDEX).all()
    assert (labels[stored != 11] == stored[stored != 11]).all()
    assert len(CLASSES) == 11


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 2), ("test", 3)])
def test_each_split_has_its_images(camvid_root, split, count):
    assert len(CamVidDataset(camvid_root, split)) == count


def missing_mask(root):
    (root / "trainannot" / "train_2.png").unlink()


def missing_image(root):
    (root / "train" / "train_2.jpg").unlink()


def other_size(root):
    Image.new("L", (30, 24)).save(root / "trainannot" / "train_2.png")


def unknown_label(root):
    Image.new("L", (32, 24), 12).save(root / "trainannot" / "train_2.png")


def colour_mask(root):
    Image.new("RGB", (32, 24)).save(root / "trainannot" / "train_2.png")


def cut_off_mask(root):
    path = root / "trainannot" / "train_2.png"
    path.write_bytes(path.read_bytes()[:200])


def no_image_file(root):
    (root / "train" / "train_2.jpg").write_text("hello")


@pytest.mark.parametrize(
    "damage", [missing_mask, missing_image, other_size, unknown_label, colour_mask, cut_off_mask, no_image_file]
)
def test_damage_is_found_at_open_and_named(camvid_root, damage):
    damage(camvid_root)
    with pytest.raises(DataError, match="train_2"):
        CamVidDataset(camvid_root, "train")
    assert len(CamVidDataset(camvid_root, "val")) == 2


def test_a_missing_folder_or_root_is_named(camvid_root):
    shutil.rmtree(camvid_root / "valannot")
    with pytest.raises(DataError, match="valannot"):
        CamVidDataset(camvid_root, "val")
    with pytest.raises(DataError, match="--root"):
        CamVidDataset("", "val")
