from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunekit.data.registry import open_dataset
from prunekit.recipe import Recipe, merge, parse_recipe
from prunekit.run import RunDirectory

TINY: dict[str, Any] = {
    "data": {"height": 32, "width": 48, "train_images": 12, "val_images": 3},
    "model": {"name": "python:prunekit.models.street:street_net?width=4"},
    "train": {"epochs": 3, "batch_size": 4, "threads": 1, "device": "cpu"},
    "selection": {"centres": 4},
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Recipe]:
    """tiny(**{"train.epochs": 2}): a recipe that trains in about a second."""
    return lambda **overrides: parse_recipe(merge(TINY, overrides))


@pytest.fixture(scope="session")
def tiny_data(tiny: Callable[..., Recipe]):
    data = tiny().data
    return {"train_set": open_dataset(data, "train"), "val_set": open_dataset(data, "val")}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    path = tmp_path / "run"
    path.mkdir()
    return RunDirectory(path)
