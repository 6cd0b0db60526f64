"""Pruning a run at once: what is written, what a kill costs, what is refused."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunekit.errors import PruneError, PrunekitError, RunError
from prunekit.modelfile import load_model, read_card, save_model
from prunekit.run import RunDirectory, read_json, write_json
from prunekit.training.events import EpochEvent, Silent
from prunekit.workflows.prune import (
    FIGURE,
    REPORT,
    is_pruning,
    prune_run,
    read_report,
    resume_prune,
)


@pytest.mark.parametrize("criterion", ["sirfp", "l2", "random"])
def test_a_run_is_pruned_to_its_ratio_and_can_be_loaded(source, new_run, config, criterion: str) -> None:
    target = new_run("pruned")
    report = prune_run(source, config(criterion=criterion, compensate="auto"), target)
    assert abs(report.ratio_realised - 0.5) <= 0.005
    assert report.exactness <= 1e-4
    loaded = load_model(target)
    assert sum(p.numel() for p in loaded.segmenter.parameters()) == report.params_after < report.params_before
    assert sum(row.macs_after for row in report.layers) <= report.macs_after
    assert any("output" in reason for _, reason in report.frozen)
    assert loaded.segmenter(torch.randn(1, 3, 33, 47)).shape == (1, loaded.card.num_classes, 33, 47)
    assert [step["step"] for step in loaded.card.lineage] == ["train", "prune", "train"]
    assert read_report(target) == report
    assert (target.path / FIGURE).read_text().endswith("</svg>\n")


def test_the_report_adds_up(source, new_run, config) -> None:
    target = new_run("pruned")
    report = prune_run(source, config(epochs=0), target)
    assert sum(part.macs_before for part in report.parts) == report.macs_before
    assert sum(part.macs_after for part in report.parts) == report.macs_after
    widths = {module: len(weight) for module, weight in _weights(target).items()}
    assert {row.name: row.channels_after for row in report.layers} == {
        row.name: widths[row.name] for row in report.layers
    }
    for group in report.groups:
        assert widths[group.name] == group.width_after <= group.width_before
        assert group.redundancy_before is not None
        assert 0 <= group.redundancy_before <= 1
    assert [row.block for row in report.padding] == [8, 16, 32]
    values = read_json(target.path / REPORT)
    assert values["macs_after"] == report.macs_after
    assert values["ratio_realised"] == report.ratio_realised


def test_the_source_is_measured_as_the_cut_network_is(source, new_run, config) -> None:
    """With batch norms that no longer fit its weights, the source itself gains by measuring them anew."""
    stale = new_run("0002-train")
    shutil.copytree(source.path, stale.path, dirs_exist_ok=True)
    loaded = load_model(stale)
    for name, buffer in loaded.segmenter.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(5)
    save_model(stale, loaded.segmenter, loaded.card)
    settled = prune_run(stale, config(epochs=0, bn_batches=2), new_run("settled"))
    fresh = prune_run(source, config(epochs=0, bn_batches=2), new_run("fresh"))
    assert settled.miou_settled == settled.miou_dense == fresh.miou_settled != settled.miou_before
    assert read_report(RunDirectory(new_run("x").path.parent / "settled")) == settled
    plain = prune_run(stale, config(epochs=0), new_run("plain"))
    assert plain.miou_settled is None
    assert plain.miou_dense == plain.miou_before == settled.miou_before


def _weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    state = load_model(run).segmenter.network.state_dict()
    return {name.removesuffix(".weight"): value for name, value in state.items() if name.endswith(".weight")}


@pytest.mark.parametrize(("name", "share"), [("target_macs", 0.4), ("target_params", 0.3)])
def test_absolute_targets_are_met(source, new_run, config, name: str, share: float) -> None:
    dense = prune_run(source, config(epochs=0, ratio=0.2), new_run("first"))
    before = {"target_macs": dense.macs_before, "target_params": dense.params_before}[name]
    report = prune_run(source, config(epochs=0, **{name: share * before}), new_run("pruned"))
    after = {"target_macs": report.macs_after, "target_params": report.params_after}[name]
    assert after == pytest.approx(share * before, abs=0.005 * before)
    assert report.stages[0].cost_predicted == after


def test_the_source_stays_as_it_was(source, new_run, config) -> None:
    before = {path: path.read_bytes() for path in source.path.iterdir()}
    prune_run(source, config(compensate="linear", bn_batches=1, init="rewind", distill="logits"), new_run("pruned"))
    assert {path: path.read_bytes() for path in source.path.iterdir()} == before


def test_without_fine_tuning_the_cut_network_is_the_result(source, new_run, config) -> None:
    target = new_run("pruned")
    report = prune_run(source, config(epochs=0), target)
    assert report.miou_after is None
    assert_same_weights(RunDirectory(target.path / "pruned"), target)


def test_compensation_and_new_norms_change_what_is_written(source, new_run, config) -> None:
    runs = [new_run(name) for name in ("plain", "linear", "norms")]
    for run, values in zip(runs, ({}, {"compensate": "linear"}, {"bn_batches": 2}), strict=True):
        report = prune_run(source, config(epochs=0, **values), run)
        assert bool(report.stages[0].compensated) == (run.path.name == "linear")
    plain, linear, norms = (load_model(run).segmenter.network.state_dict() for run in runs)
    differing = {name for name, value in plain.items() if not torch.equal(value, linear[name])}
    assert differing
    assert all(name.endswith(("weight", "bias")) for name in differing)
    assert any(not torch.equal(value, norms[name]) for name, value in plain.items() if "running" in name)


class StopsAfter(Silent):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, event: EpochEvent) -> None:
        if event.epoch == self.epoch:
            raise KeyboardInterrupt


def test_an_interrupted_fine_tuning_ends_in_the_same_weights(source, new_run, config) -> None:
    whole, cut_short = new_run("whole"), new_run("cut-short")
    expected = prune_run(source, config(epochs=2), whole)
    with pytest.raises(KeyboardInterrupt):
        prune_run(source, config(epochs=2), cut_short, observer=StopsAfter(1))
    assert is_pruning(cut_short)
    assert not cut_short.model_path.exists()
    assert resume_prune(cut_short) == expected
    assert_same_weights(whole, cut_short)


OWN = """
import numpy as np
from prunekit.pruning.criteria.criterion import Scored

def scores(evidence):
    return {group.name: np.arange(group.width)[::-1].astype(float) for group in evidence.coupling.free}

last_first = Scored("last-first", "later channels go first", "uniform", frozenset(), scores)
"""


def test_a_criterion_of_one_s_own_is_used_and_resumed_where_it_is_trusted(
    source, new_run, config, tmp_path, monkeypatch
) -> None:
    (tmp_path / "own_workflow_criterion.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run = new_run("own")
    with pytest.raises(KeyboardInterrupt):
        prune_run(
            source, config(epochs=2, criterion="python:own_workflow_criterion:last_first"), run, observer=StopsAfter(1)
        )
    with pytest.raises(PruneError, match="--trust-code"):
        resume_prune(run)
    assert resume_prune(run, trust_code=True).finished


def assert_same_weights(one: RunDirectory, other: RunDirectory) -> None:
    want, have = (load_model(run).segmenter.state_dict() for run in (one, other))
    assert want.keys() == have.keys()
    assert all(torch.equal(value, have[name]) for name, value in want.items())


def test_a_pruned_run_can_be_pruned_again(source, new_run, config) -> None:
    once, twice = new_run("once"), new_run("twice")
    first = prune_run(source, config(ratio=0.3, epochs=0, align=1), once)
    second = prune_run(once, config(ratio=0.3, epochs=0, align=1), twice)
    assert second.macs_before == first.macs_after
    assert read_card(twice).plan is not None
    assert load_model(twice).segmenter(torch.randn(1, 3, 32, 48)).isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 0.999}, r"out of reach.*--ratio 0\.\d"),
        ({"ratio": 0.999, "schedule": "iterative"}, "out of reach"),
        ({"ratio": 0.999, "sparsity": "l1"}, "out of reach"),
        ({"target_macs": 1e12}, "removes nothing"),
        ({"target_latency_ms": 1.0}, "latency table"),
        ({"min_miou": 0.999}, "--min-miou"),
        ({"ratio": 1e-6}, "removes no channel"),
        ({"settings": {"train.batch_size": 100}}, "fewer than one batch"),
        ({"settings": {"train.nonsense": 1}}, "nonsense"),
        ({"schedule": "iterative", "stages": (0.6,), "target_macs": 600_000.0}, "below the target"),
    ],
)
def test_a_request_out_of_reach_writes_nothing(
    source, new_run, config, values: dict[str, object], message: str
) -> None:
    target = new_run("pruned")
    with pytest.raises(PrunekitError, match=message):
        prune_run(source, config(**values), target)
    assert list(target.path.iterdir()) == []


def test_what_is_no_pruning_cannot_be_resumed(source, new_run) -> None:
    with pytest.raises(RunError, match="is a training"):
        resume_prune(source)
    with pytest.raises(RunError, match="Prune again"):
        resume_prune(new_run("empty"))


def test_a_folder_with_work_in_it_is_not_pruned_into(source, new_run, config) -> None:
    before = {path.name: path.read_bytes() for path in source.path.iterdir()}
    with pytest.raises(RunError, match="not empty"):
        prune_run(source, config(epochs=0), source)
    assert {path.name: path.read_bytes() for path in source.path.iterdir()} == before


def test_without_early_weights_there_is_nothing_to_rewind_to(source, new_run, config) -> None:
    """Found out before anything is computed."""
    once, target = new_run("once"), new_run("rewound")
    prune_run(source, config(epochs=0), once)
    with pytest.raises(RunError, match="rewind_epoch"):
        prune_run(once, config(init="rewind"), target)
    assert list(target.path.iterdir()) == []


class Resumes(Silent):
    """Tries to go on with a run while it is being worked on, as a second process would."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.refusals = run, list[str]()

    def on_epoch(self, event: EpochEvent) -> None:
        del event
        with pytest.raises(RunError) as refusal:
            resume_prune(self.run)
        self.refusals.append(str(refusal.value))


def test_two_processes_do_not_prune_one_run(source, new_run, config) -> None:
    run = new_run("pruned")
    observer = Resumes(run)
    report = prune_run(source, config(schedule="iterative"), run, observer=observer)
    assert len(observer.refusals) == len(report.stages) == 2
    assert all("Another process" in refusal for refusal in observer.refusals)
    assert resume_prune(run) == report


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_a_damaged_final_model_is_written_anew(
    source, new_run, config, epochs: int, damage: Callable[[Path], object]
) -> None:
    run, copy = new_run("pruned"), new_run("copy")
    report = prune_run(source, config(epochs=epochs), run)
    shutil.copytree(run.path, copy.path, dirs_exist_ok=True)
    damage(run.weights_path)
    with pytest.raises(RunError, match=f"prunekit prune --resume {run.path}"):
        load_model(run)
    assert resume_prune(run) == report
    assert_same_weights(run, copy)


def test_a_damaged_report_is_refused(source, new_run, config) -> None:
    run = new_run("pruned")
    prune_run(source, config(epochs=0), run)
    values = read_json(run.path / REPORT)
    for damage, message in (
        ({"format": 1}, "another version"),
        ({"macs_before": "many"}, "macs_before"),
        ({"stages": [{**values["stages"][0], "share": None}]}, r"stages\.0\.share"),
        ({"surplus": 1}, "surplus"),
        ({"macs_before": 0}, "macs_before"),
        ({"cost_before": math.nan}, "NaN is no number"),
        ({"config": {**values["config"], "ratio": 7}}, r"config\.ratio"),
        ({"config": {**values["config"], "criterion": "zzz"}}, r"config\.criterion"),
        ({"planned": []}, "0 are planned"),
        ({"planned": [0.3, 0.5]}, "2 are planned"),
        ({"stages": []}, "0 described"),
        ({"target": "latency"}, "target and machine"),
        ({"machine": {"device": "a", "runtime": 3}}, "machine"),
    ):
        write_json(run.path / REPORT, values | damage)
        with pytest.raises(RunError, match=message):
            read_report(run)
    Path(run.path / REPORT).write_text("{")
    with pytest.raises(RunError, match="damaged"):
        resume_prune(run)
