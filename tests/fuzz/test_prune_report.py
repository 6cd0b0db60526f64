"""The record of a pruning, as a resumed one reads it and draws it again."""

import pytest

from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.workflows.prune import PruneConfig, prune_run, read_report
from prunekit.workflows.pruning.report import write_report
from prunekit.workflows.train import train

DATA = {"height": 32, "width": 48, "train_images": 4, "val_images": 1}
MODEL = {"name": "python:prunekit.models.street:street_net?width=8"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    source, target = (RunDirectory(tmp_path_factory.mktemp(name)) for name in ("source", "target"))
    training = {"epochs": 1, "batch_size": 4, "threads": 1, "device": "cpu"}
    train(parse_recipe({"data": DATA, "model": MODEL, "train": training}), source)
    config = {"criterion": "l2", "epochs": 0, "stage_epochs": 0, "align": 2, "batches": 1, "bn_batches": 0}
    settings = PruneConfig.model_validate({**config, "compensate": "none", "schedule": "iterative", "steps": 2})
    return prune_run(source, settings, target).to_json()


def test_what_is_read_of_a_pruning_can_be_shown_and_drawn(fuzz, mutate, report, tmp_path, monkeypatch):
    drawn = RunDirectory(tmp_path)
    written = {}
    monkeypatch.setattr(
        "prunekit.workflows.pruning.report.files.write_atomically",
        lambda path, content: written.update({path: content}),
    )
    monkeypatch.setattr(
        "prunekit.workflows.pruning.report.files.write_json", lambda path, values: written.update({path: values})
    )

    def read(path):
        write_report(drawn, read_report(RunDirectory(path.parent)))

    fuzz(lambda draw: mutate.json(draw, report), read, "prune.json")
    assert written
