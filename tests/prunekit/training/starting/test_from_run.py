"""`train --from`: another run's network, cut as it is, is trained on; the run then stands alone."""

import shutil

import pytest
import torch

from prunekit.errors import ConfigError, ModelError, RunError
from prunekit.modelfile import load_model
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.workflows.continuing import recipe_from
from prunekit.workflows.prune import prune_run
from prunekit.workflows.pruning.config import PruneConfig
from prunekit.workflows.train import train


class Stop(Silent):
    def on_epoch(self, *_):
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def pruned(tiny, tmp_path_factory):
    """A network with half of its multiply-accumulates, distilled while it was fine-tuned."""
    folder = tmp_path_factory.mktemp("runs")
    source = RunDirectory(folder / "dense")
    train(tiny(**{"train.epochs": 1}), source)
    target = RunDirectory(folder / "pruned")
    prune_run(source, PruneConfig(ratio=0.5, criterion="l2", align=1, epochs=1, distill="logits"), target)
    return target


def names(run):
    return {name: tuple(value.shape) for name, value in load_model(run).segmenter.network.state_dict().items()}


def test_the_network_keeps_its_shape_and_gets_new_weights(pruned, tmp_path):
    recipe = recipe_from(pruned, {"train.epochs": 2, "train.lr": 1e-3})
    run = RunDirectory(tmp_path / "on")
    report = train(recipe, run)
    assert report.epochs == 2
    assert names(run) == names(pruned)
    before, after = (load_model(each).segmenter.network.state_dict() for each in (pruned, run))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    card, first = load_model(run).card, load_model(pruned).card
    assert card.plan == first.plan
    assert card.lineage[:-1] == first.lineage
    assert card.lineage[-1]["step"] == "train"


def test_it_begins_with_the_weights_of_the_run(pruned, tmp_path):
    run = RunDirectory(tmp_path / "on")
    train(recipe_from(pruned, {"train.epochs": 1, "train.lr": 1e-12, "train.weight_decay": 0}), run)
    before, after = (load_model(each).segmenter.network.state_dict() for each in (pruned, run))
    for name in before:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-6)


def test_it_resumes_to_the_same_bits_without_the_run_it_came_from(pruned, tmp_path):
    source = RunDirectory(tmp_path / "moved")
    shutil.copytree(pruned.path, source.path)
    recipe = recipe_from(source, {"train.epochs": 2, "train.qat": True})
    whole, stopped = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "stopped")
    train(recipe, whole)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, stopped, Stop())
    shutil.rmtree(source.path)
    report = train(stopped.recipe(), stopped)
    assert report.resumed_after == 1
    assert stopped.weights_path.read_bytes() == whole.weights_path.read_bytes()
    assert load_model(stopped).card.lineage[-1]["qat"] is True


def test_epochs_and_rate_of_qat_are_a_tenth_unless_given(pruned):
    own = pruned.recipe().train
    assert recipe_from(pruned, {}).train.epochs == own.epochs
    quick = recipe_from(pruned, {"train.qat": True}).train
    assert (quick.epochs, quick.lr) == (1, pytest.approx(own.lr / 10))
    given = recipe_from(pruned, {"train.qat": True, "train.epochs": 3, "train.lr": 0.5}).train
    assert (given.epochs, given.lr) == (3, 0.5)


def test_another_network_is_refused_and_nothing_is_written(pruned, tmp_path):
    run = RunDirectory(tmp_path / "on")
    recipe = recipe_from(pruned, {"model.name": "python:prunekit.models.street:street_net?width=8"})
    with pytest.raises(ModelError, match=r"Leave model\.name"):
        train(recipe, run)
    assert not run.path.exists() or run.is_empty()


def test_another_size_is_refused_and_nothing_is_left(pruned, tmp_path):
    run = RunDirectory(tmp_path / "on")
    with pytest.raises(ConfigError, match="prepares images as"):
        train(recipe_from(pruned, {"data.height": 64, "data.width": 96}), run)
    assert not run.path.exists() or run.is_empty()


def test_a_run_that_is_not_finished_is_refused(pruned, tmp_path):
    copied = RunDirectory(tmp_path / "half")
    shutil.copytree(pruned.path, copied.path)
    copied.model_path.unlink()
    with pytest.raises(RunError):
        train(recipe_from(copied, {}), RunDirectory(tmp_path / "on"))
