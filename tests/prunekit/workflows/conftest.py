"""Runs to prune, trained once for all tests of this folder."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from prunekit.pruning.analysis import analyse as genuine
from prunekit.pruning.coupling import Coupling
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.workflows.prune import PruneConfig
from prunekit.workflows.train import train

DATA = {"height": 32, "width": 48, "train_images": 8, "val_images": 4}
MODEL = {"name": "python:prunekit.models.street:street_net?width=8"}
TRAIN = {"epochs": 2, "batch_size": 4, "threads": 1, "rewind_epoch": 1, "device": "cpu"}

NewRun = Callable[[str], RunDirectory]
Config = Callable[..., PruneConfig]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A trained run that keeps the weights of its first epoch."""
    path = tmp_path_factory.mktemp("runs") / "0001-train"
    path.mkdir()
    run = RunDirectory(path)
    train(parse_recipe({"data": DATA, "model": MODEL, "train": TRAIN}), run)
    return run


@pytest.fixture
def new_run(tmp_path: Path) -> NewRun:
    """Make an empty run."""

    def make(name: str) -> RunDirectory:
        (tmp_path / name).mkdir()
        return RunDirectory(tmp_path / name)

    return make


@pytest.fixture(scope="session")
def config() -> Config:
    """Make settings that are quick to follow: weights only, no compensation, one epoch."""

    def make(**values: object) -> PruneConfig:
        quick = {"criterion": "l2", "epochs": 1, "stage_epochs": 1, "align": 2, "batches": 1}
        quick |= {"compensate": "none", "bn_batches": 0}
        return PruneConfig.model_validate({**quick, **values})

    return make


@pytest.fixture(scope="session")
def known() -> dict[object, Coupling]:
    return {}


@pytest.fixture(scope="module", autouse=True)
def analyse_once(known: dict[object, Coupling]) -> Any:
    """Analyse each structure once: an analysis of these networks depends on shapes alone, and takes half a second.

    Module by module, for tests elsewhere have networks whose code differs while their shapes are the same.
    """

    def analyse(network: nn.Module, inputs: tuple[Any, ...]) -> Coupling:
        shapes = tuple((name, tuple(value.shape)) for name, value in network.state_dict().items())
        key = (shapes, tuple(inputs[0].shape))
        if key not in known:
            known[key] = genuine(network, inputs)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        # By name: the package shows the function `verify` in the module's place.
        for module in ("prunekit.workflows.pruning.analysing", "prunekit.pruning.analysis.proof"):
            patch.setattr(import_module(module), "analyse", analyse)
        yield
