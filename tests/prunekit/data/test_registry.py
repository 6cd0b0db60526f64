from typing import get_args

import pytest
import torch

from prunekit.data.dataset import Sample
from prunekit.data.public.layouts import LAYOUTS
from prunekit.data.registry import DATASETS, open_dataset
from prunekit.errors import DataError
from prunekit.recipe import DataConfig
from prunekit.recipe_values import DataName


@pytest.fixture(params=DATASETS)
def config(request):
    roots = {"camvid": "camvid_root", "folder": "folder_root"}
    root = str(request.getfixturevalue(roots[request.param])) if request.param in roots else ""
    if request.param in LAYOUTS:
        root = str(request.getfixturevalue("write_public")(request.param))
    return DataConfig(name=request.param, root=root, height=32, width=48, train_images=4, val_images=2)


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_data_set_keeps_the_protocol(config, split):
    dataset = open_dataset(config, split)
    assert len(dataset) >= 2
    counted = {*range(len(dataset.classes)), dataset.classes.ignore_index}
    assert all(counted.issuperset(sample.labels_HW.unique().tolist()) for sample in dataset)
    first, again = dataset[0], dataset[0]
    assert torch.equal(first.image_3HW, again.image_3HW)
    assert torch.equal(first.labels_HW, again.labels_HW)
    assert len({sample.name for sample in dataset}) == len(dataset)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_splits_share_no_sample_and_all_classes(config):
    train, val = open_dataset(config, "train"), open_dataset(config, "val")
    assert train.classes == val.classes
    assert not {sample.name for sample in train} & {sample.name for sample in val}


@pytest.mark.parametrize("name", ["camvid", "folder", *LAYOUTS])
def test_a_root_is_asked_for(name):
    with pytest.raises(DataError, match="--root"):
        open_dataset(DataConfig(name=name), "train")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match=f"did you mean 'cityscapes'.*{', '.join(DATASETS)}"):
        open_dataset(DataConfig.model_construct(name="CityScape"), "train")
    with pytest.raises(DataError, match=r"'qqqq'\. Choose one of"):
        open_dataset(DataConfig.model_construct(name="qqqq"), "train")


def test_a_recipe_names_the_same_data_sets():
    assert get_args(DataName) == tuple(DATASETS)


def test_a_public_data_set_is_also_looked_for_beside_the_run(write_public, tmp_path):
    config = DataConfig(name="voc", root=str(tmp_path / "gone"), root_from_run="../gone")
    with pytest.raises(DataError, match=r"\.\./gone, as seen from the run's folder"):
        open_dataset(config, "train")


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (torch.zeros(3, 2, 2), torch.zeros(2, 2, dtype=torch.uint8)),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.int64)),
        (torch.zeros(2, 2, 3, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.uint8)),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(image, labels):
    with pytest.raises(DataError, match="photo"):
        Sample(image, labels, "photo")
