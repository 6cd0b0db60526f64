"""Pruning a run: what is written, what a kill costs, what is refused."""

from pathlib import Path

import pytest
import torch

from prunekit.errors import PrunekitError, RunError
from prunekit.modelfile import load_model, read_card
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.training.events import EpochEvent, Silent
from prunekit.workflows.prune import PruneConfig, is_pruning, prune_run, read_report, resume_prune
from prunekit.workflows.train import train

DATA = {"height": 32, "width": 48, "train_images": 8, "val_images": 4}
MODEL = {"name": "python:prunekit.models.street:street_net?width=16"}


def new_run(path: Path) -> RunDirectory:
    path.mkdir()
    return RunDirectory(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = new_run(tmp_path_factory.mktemp("runs") / "train")
    train(parse_recipe({"data": DATA, "model": MODEL, "train": {"epochs": 1, "batch_size": 4, "threads": 1}}), run)
    return run


def config(**values: object) -> PruneConfig:
    return PruneConfig.model_validate({"epochs": 2, "align": 4, "batches": 2, **values})


@pytest.mark.parametrize("criterion", ["sirfp", "l2", "random"])
def test_a_run_is_pruned_to_its_ratio_and_can_be_loaded(source: RunDirectory, tmp_path: Path, criterion: str) -> None:
    target = new_run(tmp_path / "pruned")
    report = prune_run(source, config(criterion=criterion, epochs=1), target)
    assert abs(report.ratio_realised - 0.5) <= 0.01
    assert report.exactness <= 1e-4
    loaded = load_model(target)
    assert sum(p.numel() for p in loaded.segmenter.parameters()) == report.params_after < report.params_before
    assert sum(row.macs_after for row in report.layers) <= report.macs_after
    assert any("output" in reason for _, reason in report.frozen)
    assert loaded.segmenter(torch.randn(1, 3, 33, 47)).shape == (1, loaded.card.num_classes, 33, 47)
    assert [step["step"] for step in loaded.card.lineage] == ["train", "prune", "train"]
    assert read_report(target) == report


def test_the_source_stays_as_it_was(source: RunDirectory, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in source.path.iterdir()}
    prune_run(source, config(epochs=0), new_run(tmp_path / "pruned"))
    assert {path: path.read_bytes() for path in source.path.iterdir()} == before


def test_without_fine_tuning_the_cut_network_is_the_result(source: RunDirectory, tmp_path: Path) -> None:
    target = new_run(tmp_path / "pruned")
    report = prune_run(source, config(epochs=0), target)
    assert report.miou_after is None
    cut, result = load_model(RunDirectory(target.path / "pruned")), load_model(target)
    for name, value in cut.segmenter.state_dict().items():
        assert torch.equal(value, result.segmenter.state_dict()[name])


class StopsAfter(Silent):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, event: EpochEvent) -> None:
        if event.epoch == self.epoch:
            raise KeyboardInterrupt


def test_an_interrupted_fine_tuning_ends_in_the_same_weights(source: RunDirectory, tmp_path: Path) -> None:
    whole, cut_short = new_run(tmp_path / "whole"), new_run(tmp_path / "cut-short")
    expected = prune_run(source, config(), whole)
    with pytest.raises(KeyboardInterrupt):
        prune_run(source, config(), cut_short, observer=StopsAfter(1))
    assert is_pruning(cut_short)
    assert not cut_short.model_path.exists()
    assert resume_prune(cut_short).miou_after == expected.miou_after
    want, have = load_model(whole).segmenter.state_dict(), load_model(cut_short).segmenter.state_dict()
    assert all(torch.equal(value, have[name]) for name, value in want.items())


def test_a_pruned_run_can_be_pruned_again(source: RunDirectory, tmp_path: Path) -> None:
    once, twice = new_run(tmp_path / "once"), new_run(tmp_path / "twice")
    first = prune_run(source, config(ratio=0.3, epochs=0, align=1), once)
    second = prune_run(once, config(ratio=0.3, epochs=0, align=1), twice)
    assert second.macs_before == first.macs_after
    assert read_card(twice).plan is not None
    assert load_model(twice).segmenter(torch.randn(1, 3, 32, 48)).isfinite().all()


def test_a_ratio_out_of_reach_writes_nothing(source: RunDirectory, tmp_path: Path) -> None:
    target = new_run(tmp_path / "pruned")
    with pytest.raises(PrunekitError, match="out of reach"):
        prune_run(source, config(ratio=0.999), target)
    assert list(target.path.iterdir()) == []


def test_what_is_no_pruning_cannot_be_resumed(source: RunDirectory) -> None:
    with pytest.raises(RunError, match="Prune again"):
        resume_prune(source)
