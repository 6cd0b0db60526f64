import json
import math

import pytest
import torch
from safetensors import safe_open

from prunekit.data.registry import open_dataset
from prunekit.data.transforms import contract_of
from prunekit.errors import ConfigError, RunError
from prunekit.modelfile import load_model, new_card, rebuild
from prunekit.pruning import analyse, arbitrary_plan, prune_
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.training.loop import fit
from prunekit.workflows.train import build_network, train


class StoppedError(Exception):
    pass


class StopAt(Silent):
    """Interrupts a training after a step, counted from 1 over the whole run."""

    def __init__(self, step: int) -> None:
        self.left = step

    def on_step(self, event):
        assert event.step <= event.steps
        self.left -= 1
        if self.left == 0:
            raise StoppedError


class Record(Silent):
    def __init__(self) -> None:
        self.starts, self.steps, self.epochs, self.evaluations = [], [], [], []

    def on_start(self, event):
        self.starts.append(event)

    def on_step(self, event):
        self.steps.append(event)

    def on_evaluation(self, event):
        self.evaluations.append(event)

    def on_epoch(self, event):
        self.epochs.append(event)


def _new(tmp_path, name: str) -> RunDirectory:
    (tmp_path / name).mkdir()
    return RunDirectory(tmp_path / name)


def _same(one: RunDirectory, two: RunDirectory) -> bool:
    return one.weights_path.read_bytes() == two.weights_path.read_bytes()


def test_settings_are_known_to_fit_before_the_first_step_and_labels_are_counted_aloud(tiny, run):
    heard = []

    class Watch(Silent):
        def on_start(self, event):
            heard.append(f"start in {event.precision}")

    train(
        tiny(),
        run,
        Watch(),
        on_ready=lambda: heard.append("ready"),
        on_progress=lambda step, done, total: heard.append(step) if done == total else None,
    )
    assert heard == ["ready", "Counting labels", "Counting labels", "start in fp32"]


def test_a_run_leaves_recipe_metrics_state_and_model(tiny, run):
    watch = Record()
    recipe = tiny(**{"train.eval_every": 2})
    report = train(recipe, run, watch)
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert ["miou" in row for row in rows] == [False, True, True]
    assert all(row["loss"] > 0 and row["images_per_s"] > 0 and row["kept_fraction"] == 1 for row in rows)
    assert run.recipe() == recipe
    assert load_model(run).card == report.card
    assert (len(watch.starts), len(watch.steps), len(watch.epochs)) == (1, 9, 3)
    assert (watch.steps[0].epoch, watch.steps[0].step, watch.steps[-1].epoch, watch.steps[-1].step) == (1, 1, 3, 3)
    assert watch.steps[-1].eta_s < watch.steps[4].eta_s
    assert [step.eta_is_least for step in watch.steps] == [step.epoch <= 2 for step in watch.steps]  # none timed yet
    assert [event.epoch for event in watch.evaluations if event.done == event.images] == [2, 3]
    assert watch.evaluations[-1].eta_s == pytest.approx(0.0, abs=1e-6)
    assert report.miou == rows[-1]["miou"] == watch.epochs[-1].miou
    assert report.pruned_fraction == 0
    assert {path.name for path in run.path.iterdir() if path.name != ".lock"} == {
        "recipe.toml",
        "model.safetensors",
        "model.json",
        "state.safetensors",
        "metrics.jsonl",
        "labels.json",
    }


def test_the_seed_decides_the_weights_and_nothing_else_does(tiny, tmp_path):
    runs = []
    for index, seed in enumerate((0, 0, 1)):
        torch.manual_seed(index)  # the caller's generator plays no part, and is left as it was
        state = torch.get_rng_state()
        runs.append(_new(tmp_path, str(index)))
        train(tiny(**{"train.seed": seed, "train.epochs": 1}), runs[-1])
        assert torch.equal(torch.get_rng_state(), state)
    assert _same(runs[0], runs[1])
    assert not _same(runs[0], runs[2])


@pytest.mark.parametrize(
    "settings",
    [
        {"train.optimiser": "adamw", "selection.strategy": "pfb"},
        {"train.optimiser": "sgd", "train.lr": 0.01, "selection.strategy": "random"},
        {"train.precision": "bf16", "train.checkpoint_every": 2},
        {"model.head": "ccs", "train.channels_last": False},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
@pytest.mark.parametrize("step", [2, 5, 8])
def test_an_interrupted_run_ends_in_the_same_bits_as_a_whole_one(tiny, tmp_path, settings, step):
    recipe = tiny(**{"selection.start": 0.0, **settings})
    whole, broken = _new(tmp_path, "whole"), _new(tmp_path, "broken")
    report = train(recipe, whole)
    with pytest.raises(StoppedError):
        train(recipe, broken, StopAt(step))
    again = train(recipe, broken)
    assert _same(whole, broken)
    assert whole.model_path.read_text() == broken.model_path.read_text()
    assert again.resumed_after == (step - 1) // 3 // recipe.train.checkpoint_every * recipe.train.checkpoint_every
    assert again.pruned_fraction == report.pruned_fraction
    assert [_timeless(row) for row in whole.metrics()] == [_timeless(row) for row in broken.metrics()]


def _timeless(row: dict) -> dict:
    return {key: value for key, value in row.items() if not key.endswith("_s")}


def test_rows_after_the_checkpoint_are_cut_when_resuming(tiny, run):
    recipe = tiny(**{"train.epochs": 2})
    with pytest.raises(StoppedError):
        train(recipe, run, StopAt(5))
    rows = run.metrics()
    run.write_metrics([*rows, {**rows[-1], "epoch": 2}])  # killed between the rows and the checkpoint
    train(recipe, run)
    assert [row["epoch"] for row in run.metrics()] == [1, 2]


def test_a_finished_run_resumes_to_itself_and_starts_anew_only_when_told(tiny, run):
    recipe = tiny(**{"train.epochs": 1})
    first = train(recipe, run)
    weights = run.weights_path.read_bytes()
    watch = Record()
    again = train(recipe, run, watch)
    assert (again.resumed_after, watch.steps) == (1, [])
    assert (again.miou, again.card, run.weights_path.read_bytes()) == (first.miou, first.card, weights)
    anew = train(recipe, run, watch, resume=False)
    assert (anew.resumed_after, len(watch.steps)) == (0, 3)
    assert run.weights_path.read_bytes() == weights


def test_fine_tuning_a_pruned_network_resumes_to_the_same_bits(tiny, tiny_data, tmp_path):
    recipe = tiny(**{"train.epochs": 2, "selection.strategy": "pfb"})
    dense = build_network(recipe, len(tiny_data["train_set"].classes))
    plan = arbitrary_plan(analyse(dense.network, (torch.zeros(1, 3, 32, 48),)), 0.5)
    card = new_card(recipe.model, tiny_data["train_set"].classes, contract_of(recipe.data, dense.stride))
    card = card.model_copy(update={"plan": plan.to_json()}).followed_by({"step": "prune"})
    start = {name: value.clone() for name, value in prune_(dense.network, plan).state_dict().items()}

    def once(run: RunDirectory, observer=None):
        segmenter = rebuild(card)
        segmenter.network.load_state_dict(start)
        return fit(segmenter, recipe, run, **tiny_data, card=card, observer=observer)

    whole, broken = _new(tmp_path, "whole"), _new(tmp_path, "broken")
    once(whole)
    with pytest.raises(StoppedError):
        once(broken, StopAt(5))
    report = once(broken)
    assert _same(whole, broken)
    loaded = load_model(broken)
    assert [step["step"] for step in loaded.card.lineage] == ["prune", "train"]
    assert loaded.card == report.card
    assert {name: value.shape for name, value in loaded.segmenter.network.state_dict().items()} == {
        name: value.shape for name, value in start.items()
    }


@pytest.mark.parametrize("strategy", ["random", "pfb"])
def test_the_realised_pruned_fraction_is_logged_exactly(tiny, run, strategy):
    recipe = tiny(
        **{"selection.strategy": strategy, "selection.ratio": 0.5, "selection.start": 0.3, "selection.end": 1}
    )
    watch = Record()
    report = train(recipe, run, watch)
    kept, seen = sum(step.kept for step in watch.steps), 4 * len(watch.steps)
    assert report.pruned_fraction == 1 - kept / seen
    assert report.pruned_fraction == run.metrics()[-1]["pruned_fraction"]
    assert 0.2 < report.pruned_fraction < 0.35


def test_other_settings_are_refused_on_resuming_and_free_ones_are_not(tiny, run):
    recipe = tiny()
    with pytest.raises(StoppedError):
        train(recipe, run, StopAt(4))
    with pytest.raises(RunError, match="other settings"):
        train(tiny(**{"train.lr": 0.5}), run)
    assert run.recipe() == recipe  # the refusal has not touched the run's own recipe
    train(tiny(**{"train.eval_every": 1, "train.checkpoint_every": 3}), run)


def test_a_damaged_state_is_refused_in_one_sentence(tiny, run):
    recipe = tiny()
    with pytest.raises(StoppedError):
        train(recipe, run, StopAt(4))
    whole = run.state_path.read_bytes()
    for content in (b"", whole[:100], whole[:-10], b"\xff" * 64):
        run.state_path.write_bytes(content)
        with pytest.raises(RunError, match=r"state\.safetensors is damaged"):
            train(recipe, run)


def test_a_state_of_another_network_is_refused(tiny, tiny_data, run):
    recipe = tiny()
    with pytest.raises(StoppedError):
        train(recipe, run, StopAt(4))
    other = build_network(tiny(**{"model.name": "python:prunekit.models.street:street_net?width=6"}), 10)
    card = new_card(recipe.model, tiny_data["train_set"].classes, contract_of(recipe.data, 1))
    with pytest.raises(RunError, match="does not fit the network"):
        fit(other, recipe, run, **tiny_data, card=card)


def test_a_loss_that_is_not_finite_stops_the_training(tiny, tiny_data, run):
    recipe = tiny()
    segmenter = build_network(recipe, len(tiny_data["train_set"].classes))
    with torch.no_grad():
        next(segmenter.parameters()).fill_(math.nan)
    card = new_card(recipe.model, tiny_data["train_set"].classes, contract_of(recipe.data, 1))
    with pytest.raises(RunError, match=r"nan at epoch 1, step 1.*train\.lr"):
        fit(segmenter, recipe, run, **tiny_data, card=card)


def test_a_data_set_with_other_classes_is_refused(tiny, tiny_data, run):
    recipe = tiny()
    classes = tiny_data["train_set"].classes
    segmenter = build_network(recipe, len(classes))
    card = new_card(recipe.model, classes, contract_of(recipe.data, 1))
    card = card.model_copy(update={"class_names": tuple(reversed(classes.names))})
    with pytest.raises(ConfigError, match="training split has"):
        fit(segmenter, recipe, run, **tiny_data, card=card)


def test_a_contract_that_is_not_the_recipes_is_refused(tiny, tiny_data, run):
    recipe = tiny()
    segmenter = build_network(recipe, len(tiny_data["train_set"].classes))
    card = new_card(recipe.model, tiny_data["train_set"].classes, contract_of(tiny(**{"data.height": 64}).data, 1))
    with pytest.raises(ConfigError, match=r"data\.height"):
        fit(segmenter, recipe, run, **tiny_data, card=card)


def test_a_batch_of_one_before_global_batch_norms_is_refused(tiny, run):
    with pytest.raises(ConfigError, match=r"train\.batch_size to 2"):
        train(tiny(**{"train.batch_size": 1, "model.name": "smp:DeepLabV3Plus?encoder=resnet18"}), run)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_and_fp16_on_the_cpu_are_refused(tiny, run):
    with pytest.raises(ConfigError, match="no CUDA device"):
        train(tiny(**{"train.device": "cuda"}), run)
    with pytest.raises(ConfigError, match="fp16 needs CUDA"):
        train(tiny(**{"train.precision": "fp16"}), run)


def test_a_second_process_in_the_same_run_is_refused(tiny, run):
    with run.locked(), pytest.raises(RunError, match="Another process"):
        train(tiny(), run)


def test_the_state_holds_no_more_than_tensors_and_numbers(tiny, run):
    train(tiny(**{"train.epochs": 1, "selection.strategy": "pfb"}), run)
    with safe_open(run.state_path, framework="pt") as file:
        assert {name.split("/")[0] for name in file.keys()} == {"network", "optimiser", "selector"}  # noqa: SIM118
        assert json.loads(file.metadata()["prunekit"])["epochs_done"] == 1


def test_training_learns(tiny, run):
    recipe = tiny(
        **{
            "train.epochs": 12,
            "train.lr": 5e-3,
            "data.train_images": 24,
            "model.name": "python:prunekit.models.street:street_net?width=8",
        }
    )
    report = train(recipe, run)
    assert open_dataset(recipe.data, "val").classes.names == report.card.class_names
    assert report.miou is not None
    assert report.miou > 0.12  # ten classes: a constant guess is below 0.05
