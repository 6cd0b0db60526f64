"""Pruning in stages: each is written, a kill at any write costs nothing, a floor takes a stage back."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunekit.errors import PruneError, RunError
from prunekit.modelfile import load_model, read_card
from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine, widths_of
from prunekit.pruning.surgery import pruned
from prunekit.run import RunDirectory
from prunekit.workflows.prune import is_pruning, needs_latency, prune_run, read_report, resume_prune
from prunekit.workflows.pruning.config import fine_tuning_recipe
from prunekit.workflows.pruning.job import Job
from prunekit.workflows.pruning.tuning import _initial, _rest  # what fine-tuning starts from shows nowhere else

TWO = {"ratio": 0.6, "schedule": "iterative"}


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_model(run).segmenter.network.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def stop_at(beginning: str) -> Callable[[str], None]:
    def stop(what: str) -> None:
        if what.startswith(beginning):
            raise KeyboardInterrupt

    return stop


def test_each_stage_goes_to_its_share_of_the_source_and_is_a_run(source, new_run, config) -> None:
    target = new_run("pruned")
    report = prune_run(source, config(**TWO, align=1), target)
    assert [stage.share for stage in report.stages] == [0.3, 0.6]
    for stage in report.stages:
        assert 1 - stage.macs_after / report.macs_before == pytest.approx(stage.share, abs=0.005)
        assert stage.tuned
    first = RunDirectory(target.path / "stage-01")
    assert sum(p.numel() for p in load_model(first).segmenter.parameters()) == report.stages[0].params_after
    assert first.recipe().train.epochs == 1
    assert [step["step"] for step in read_card(target).lineage] == ["train", "prune", "train", "prune", "train"]
    dense = {name: len(value) for name, value in weights(source).items() if value.dim()}
    for group in report.groups:
        assert group.width_before == dense[f"{group.name}.weight"]
        assert group.width_after == len(weights(target)[f"{group.name}.weight"])
    assert report.ratio_realised == pytest.approx(0.6, abs=0.005)
    assert read_report(target) == report


def test_a_kill_at_any_write_resumes_to_the_same_network(source, new_run, config, monkeypatch) -> None:
    asked = config(**TWO, epochs=0, stage_epochs=0)
    whole = new_run("whole")
    replaced: list[str] = []
    genuine = Path.replace

    def count(self: Path, target: Path) -> Path:
        replaced.append(str(target))
        return genuine(self, target)

    monkeypatch.setattr(Path, "replace", count)
    expected = prune_run(source, asked, whole)
    want, writes = weights(whole), len(replaced)
    assert writes >= 15
    for fatal in (0, 1, *range(2, writes, 5)):  # the first ones, then every fifth: a kill costs seconds here
        target = new_run(f"killed-{fatal}")
        left = iter(range(fatal))

        def kill(self: Path, target: Path, left: object = left) -> Path:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return genuine(self, target)

        monkeypatch.setattr(Path, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            prune_run(source, asked, target)
        monkeypatch.setattr(Path, "replace", genuine)
        if is_pruning(target):
            assert resume_prune(target) == expected
            assert same(weights(target), want)
        else:
            assert fatal == 0  # nothing was written, so nothing stands in the way of pruning again
            assert list(target.path.iterdir()) == []
            with pytest.raises(RunError, match="Prune again"):
                resume_prune(target)


def test_a_finished_pruning_is_only_read(source, new_run, config) -> None:
    target = new_run("pruned")
    report = prune_run(source, config(epochs=0), target)
    before = {path: path.stat().st_mtime_ns for path in target.path.rglob("*")}
    assert resume_prune(target) == report
    assert {path: path.stat().st_mtime_ns for path in target.path.rglob("*")} == before


@pytest.mark.parametrize(("fails", "left"), [(1, "0001-train"), (2, "stage-01")])
def test_a_stage_below_the_floor_is_taken_back(source, new_run, config, monkeypatch, fails: int, left: str) -> None:
    monkeypatch.setattr(Job, "miou", lambda *_: next(scores))
    scores = iter([0.8, *(0.7 for _ in range(fails - 1)), 0.2])
    target = new_run("pruned")
    report = prune_run(source, config(**TWO, epochs=0, stage_epochs=0, min_miou=0.5), target)
    assert report.rolled_back is not None
    assert f"stage {fails}" in report.rolled_back
    assert "0.2000" in report.rolled_back
    assert len(report.stages) == fails
    assert len(report.standing) == fails - 1
    kept = source if fails == 1 else RunDirectory(target.path / left)
    assert same(weights(target), weights(kept))
    assert report.params_after == sum(p.numel() for p in load_model(target).segmenter.parameters())
    assert report.ratio_realised == pytest.approx(0.3 * (fails - 1), abs=0.005)
    assert resume_prune(target) == report


def test_what_a_resumed_pruning_began_with_must_still_be_there(source, new_run, config) -> None:
    once, target = new_run("once"), new_run("target")
    prune_run(source, config(epochs=0), once)

    with pytest.raises(KeyboardInterrupt):
        prune_run(once, config(ratio=0.2, align=1), target, on_stage=stop_at("Fine-tuning"))
    weights_before = once.weights_path.read_bytes()
    card_before = once.model_path.read_bytes()
    once.model_path.unlink()
    with pytest.raises(RunError, match="gone"):
        resume_prune(target)
    once.model_path.write_bytes(source.model_path.read_bytes())
    with pytest.raises(RunError, match="other weights"):
        resume_prune(target)
    once.model_path.write_bytes(card_before)
    once.weights_path.write_bytes(weights_before)
    assert resume_prune(target).finished


def test_a_pruning_and_its_source_may_move_together(source, tmp_path, config, monkeypatch) -> None:
    """Not only to another name of the same folder: the pruning need not lie beside its source."""
    here = tmp_path / "here"
    shutil.copytree(source.path, here / "runs/dense")
    monkeypatch.chdir(here)
    target = RunDirectory(Path("out/pruned"))
    with pytest.raises(KeyboardInterrupt):
        prune_run(RunDirectory(Path("runs/dense")), config(), target, on_stage=stop_at("Fine-tuning"))
    monkeypatch.chdir(tmp_path)
    here.rename(tmp_path / "there")
    assert resume_prune(RunDirectory(Path("there/out/pruned"))).finished


def test_a_link_out_of_the_run_is_not_written_through(source, new_run, config, tmp_path) -> None:
    target, victim = new_run("target"), new_run("victim")
    with pytest.raises(KeyboardInterrupt):
        prune_run(source, config(**TWO), target, on_stage=stop_at("Fine-tuning"))
    shutil.rmtree(target.path / "stage-01")
    (target.path / "stage-01").symlink_to(victim.path)
    with pytest.raises(RunError, match="stage-01 is a link"):
        resume_prune(target)
    assert list(victim.path.iterdir()) == []


@pytest.mark.parametrize("lost", ["recipe.toml", "prune.svg"])
def test_a_pruning_killed_before_its_recipe_was_written_is_resumed(source, new_run, config, lost: str) -> None:
    whole, killed = new_run("whole"), new_run("killed")
    expected = prune_run(source, config(), whole)
    with pytest.raises(KeyboardInterrupt):
        prune_run(source, config(), killed, on_stage=stop_at("Fine-tuning"))
    (killed.path / lost).unlink()
    assert resume_prune(killed) == expected
    assert same(weights(killed), weights(whole))
    assert killed.recipe() == whole.recipe()


@pytest.mark.parametrize("init", ["rewind", "random"])
def test_fine_tuning_starts_from_the_weights_asked_for(source, new_run, config, init: str) -> None:
    target = new_run("pruned")
    asked = config(epochs=0, init=init)
    prune_run(source, asked, target)
    cut = load_model(RunDirectory(target.path / "pruned"))
    job = Job(target, asked, fine_tuning_recipe(source.recipe(), asked), lambda _: None)
    first, second = (_initial(cut, source, job).network.state_dict() for _ in range(2))
    assert same(first, second)
    assert {name: value.shape for name, value in first.items()} == {
        name: value.shape for name, value in cut.segmenter.network.state_dict().items()
    }
    assert not same(first, cut.segmenter.network.state_dict())


def test_the_rest_of_a_plan_leads_from_the_first_to_the_whole(source, new_run, config) -> None:
    from prunekit.pruning.surgery import Plan

    once, twice = new_run("once"), new_run("twice")
    prune_run(source, config(ratio=0.3, epochs=0, align=1), once)
    prune_run(once, config(ratio=0.3, epochs=0, align=1), twice)
    first, whole = (Plan.from_json(read_card(run).plan or {}) for run in (once, twice))
    dense = load_model(source).segmenter.network
    direct = pruned(dense, whole).state_dict()
    assert same(pruned(pruned(dense, first), _rest(whole, first)).state_dict(), direct)


@pytest.mark.parametrize("sparsity", ["l1", "polarisation", "group", "mask"])
def test_sparsity_is_trained_before_the_cut_and_resumes(source, new_run, config, sparsity: str) -> None:
    asked = config(epochs=0, sparsity=sparsity, sparsity_epochs=1, settings={"train.sparsity_weight": 0.1})
    whole, killed = new_run("whole"), new_run("killed")
    expected = prune_run(source, asked, whole)

    with pytest.raises(KeyboardInterrupt):
        prune_run(source, asked, killed, on_stage=stop_at("Proving"))
    assert not (killed.path / "pruned").exists()
    assert resume_prune(killed) == expected
    assert same(weights(killed), weights(whole))
    assert [step["step"] for step in read_card(whole).lineage] == ["train", "train", "prune"]


def test_a_teacher_changes_what_is_learnt(source, new_run, config) -> None:
    runs = [new_run(name) for name in ("none", "logits", "channel")]
    for run in runs:
        prune_run(source, config(distill=run.path.name), run)
    found = [weights(run) for run in runs]
    assert not same(found[0], found[1])
    assert not same(found[1], found[2])


class Meter:
    """A machine on which a layer takes a nanosecond for every pair of channels, and a network a tenth more."""

    machine = Machine("pretended", "none", 1, "fp32")

    def __init__(self) -> None:
        self.measured: list[float] = []

    def table(self, segmenter, input_shape, _: object = None) -> LatencyTable:
        names = [name for name, module in segmenter.network.named_modules() if isinstance(module, torch.nn.Conv2d)]
        layers = {
            name: LayerTimes((1, i), (1, o), ((1e-6, o * 1e-6), (i * 1e-6, i * o * 1e-6)))
            for name, (i, o) in widths_of(segmenter.network, dict.fromkeys(names)).items()
            if min(i, o) > 1
        }
        return LatencyTable(self.machine, input_shape, layers, rest_ms=0.0)

    def network_ms(self, segmenter, input_shape) -> float:
        table = self.table(segmenter, input_shape)
        self.measured.append(1.1 * table.dense_ms)
        return self.measured[-1]


@pytest.mark.parametrize(
    ("criterion", "allocation", "expected"),
    [
        ("sirfp", "auto", "cost"),
        ("sirfp", "uniform", "uniform"),
        ("l2", "balanced", "balanced"),
        ("l2", "auto", "uniform"),
    ],
)
def test_a_latency_is_shared_out_as_asked_or_as_the_criterion_wants(
    source, new_run, config, criterion: str, allocation: str, expected: str
) -> None:
    meter = Meter()
    target_ms = 0.5 * meter.table(load_model(source).segmenter, (1, 3, 32, 48)).dense_ms
    asked = config(target_latency_ms=target_ms, criterion=criterion, allocation=allocation, epochs=0, align=1)
    report = prune_run(source, asked, new_run("pruned"), meter=meter)
    assert report.stages[0].allocation == expected


def test_a_latency_is_met_by_measuring(source, new_run, config) -> None:
    meter, network = Meter(), load_model(source).segmenter
    dense_ms = meter.table(network, (1, 3, 32, 48)).dense_ms
    target_ms = 0.5 * dense_ms
    report = prune_run(source, config(target_latency_ms=target_ms, epochs=0, align=1), new_run("pruned"), meter=meter)
    stage = report.stages[0]
    assert stage.latency_measured_ms in meter.measured
    assert stage.latency_measured_ms == pytest.approx(target_ms, rel=0.03)
    assert stage.cost_predicted == pytest.approx(target_ms, rel=0.03)
    assert not needs_latency(report)
    other = LatencyTable(meter.machine, (1, 3, 32, 48), {"nowhere": LayerTimes((1,), (1,), ((1.0,),))}, 0.0)
    with pytest.raises(PruneError, match="nowhere"):
        prune_run(source, config(target_latency_ms=target_ms), new_run("other"), table=other)


def test_stages_are_measured_on_one_machine(source, new_run, config) -> None:
    meter = Meter()
    target_ms = 0.5 * meter.table(load_model(source).segmenter, (1, 3, 32, 48)).dense_ms
    run, asked = new_run("pruned"), config(target_latency_ms=target_ms, schedule="iterative", align=1)
    with pytest.raises(KeyboardInterrupt):
        prune_run(source, asked, run, meter=meter, on_stage=stop_at("Fine-tuning"))
    assert read_report(run).machine == meter.machine
    other = Meter()
    other.machine = replace(meter.machine, threads=meter.machine.threads + 1)
    with pytest.raises(PruneError, match="another machine"):
        resume_prune(run, meter=other)
    assert resume_prune(run, meter=meter).finished
