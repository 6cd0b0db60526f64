"""The library chooses, cuts and settles as `prunekit prune` does, and reads runs back as modules."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import prunekit
from prunekit.errors import RunError, UntrustedCodeError
from prunekit.modelfile import load_model, read_card
from prunekit.run import RunDirectory
from prunekit.workflows.prune import PruneConfig, prune_run, read_report
from prunekit.workflows.pruning.config import fine_tuning_recipe
from prunekit.workflows.pruning.job import Job
from prunekit.workflows.pruning.judging import labelled_batches

NewRun = Callable[[str], RunDirectory]


def seen_by_the_command(source: RunDirectory, config: PruneConfig) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """The statistics batches of a pruning, and the image that MACs are counted on."""
    job = Job(source, config, fine_tuning_recipe(source.recipe(), config), lambda _: None)
    loaded = load_model(source)
    return [(b.images_B3HW, b.labels_BHW) for b in labelled_batches(loaded, job, 16)], job.example(loaded)


@pytest.mark.parametrize(
    "options",
    [{}, {"criterion": "taylor"}, {"criterion": "sirfp-paper"}, {"allocation": "balanced"}, {"target_params": 4000}],
    ids=str,
)
def test_the_choice_is_the_command_s_bit_for_bit(source: RunDirectory, new_run: NewRun, options) -> None:
    config = PruneConfig.model_validate({"epochs": 0, "align": 2, **options})
    target = new_run("pruned")
    report = prune_run(source, config, target)
    batches, example = seen_by_the_command(source, config)
    dense = prunekit.load(source.path)
    small, own = prunekit.prune(dense, batches, align=2, example_inputs=(example,), return_report=True, **options)
    assert own.plan.to_json() == read_card(target).plan
    assert (own.macs_before, own.macs_after) == (report.macs_before, report.macs_after)
    assert (own.params_after, own.exactness) == (report.params_after, report.exactness)
    assert (own.layers, own.compensated) == (report.layers, report.stages[0].compensated)
    state = load_model(target).segmenter.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in small.state_dict().items())
    assert small.card.plan == read_card(target).plan
    assert small.card.lineage[-1]["step"] == "prune"
    assert dense.card.plan is None


def test_the_network_inside_is_pruned_alike_as_a_plain_module(source: RunDirectory) -> None:
    batches, example = seen_by_the_command(source, PruneConfig())
    dense = prunekit.load(source.path)
    of_run = prunekit.prune(dense, batches, align=2, example_inputs=(example,), return_report=True)[1]
    plain = prunekit.prune(dense.network, batches, align=2, example_inputs=(example,), return_report=True)[1]
    assert plain.plan == of_run.plan


def test_a_run_is_a_module_with_its_card(source: RunDirectory) -> None:
    segmenter = prunekit.load(str(source.path))
    assert isinstance(segmenter, prunekit.Segmenter)
    assert not any(module.training for module in segmenter.modules())
    assert segmenter(torch.zeros(1, 3, 33, 47)).shape == (1, segmenter.card.num_classes, 33, 47)
    assert len(segmenter.classes.names) == segmenter.num_classes
    assert (segmenter.contract.height, segmenter.contract.width) == (32, 48)
    expected = load_model(source).segmenter.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in segmenter.state_dict().items())


def test_a_pruned_run_and_its_network_as_cut_are_read(source: RunDirectory, new_run: NewRun, config) -> None:
    target = new_run("0002-prune")
    prune_run(source, config(), target)
    widths = [
        sum(v.numel() for v in prunekit.load(path).parameters()) for path in (target.path, target.path / "pruned")
    ]
    assert widths == [read_report(target).params_after] * 2


def test_what_is_no_run_is_refused(source: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        prunekit.load(tmp_path / "0009-train")
    with pytest.raises(RunError, match="Did you mean"):
        prunekit.load(source.weights_path)
    with pytest.raises(RunError, match=r"no recipe\.toml"):
        prunekit.load(tmp_path)


def test_code_of_others_is_not_run_unless_trusted(source: RunDirectory, tmp_path: Path) -> None:
    card = read_card(source).model_copy(update={"factory": "python:os:getcwd"})
    for name in ("recipe.toml", "model.safetensors"):
        (tmp_path / name).write_bytes((source.path / name).read_bytes())
    (tmp_path / "model.json").write_text(card.model_dump_json())
    with pytest.raises(UntrustedCodeError, match="trust_code=True"):
        prunekit.load(tmp_path)
