"""Trainings with a teacher, a regulariser, drawn classes and a snapshot: what they change, and that they resume."""

import copy
import functools

import pytest
import torch
from safetensors.torch import load_file

from prunekit.data.registry import open_dataset
from prunekit.data.transforms import contract_of
from prunekit.errors import ConfigError, RunError
from prunekit.modelfile import new_card, rebuild
from prunekit.models.zoo import build
from prunekit.pruning import analyse
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.training.extras import Extras
from prunekit.training.loop import fit
from prunekit.training.losses import Teacher, make_regulariser
from prunekit.training.snapshots import load_rewind_, rewind_path
from prunekit.workflows.train import build_network


class StoppedError(Exception):
    pass


class StopAt(Silent):
    def __init__(self, step: int) -> None:
        self.left = step

    def on_step(self, event):
        assert event.loss > 0
        self.left -= 1
        if self.left == 0:
            raise StoppedError


class Losses(Silent):
    def __init__(self) -> None:
        self.values = []

    def on_step(self, event):
        self.values.append(event.loss)


@pytest.fixture(scope="module")
def small(tiny):
    """small(**settings): a recipe of two epochs of two steps."""
    base = {"train.epochs": 2, "data.train_images": 8, "data.val_images": 1, "train.eval_every": 9}
    return lambda **settings: tiny(**{**base, **settings})


@pytest.fixture(scope="module")
def data(small):
    config = small().data
    return {"train_set": open_dataset(config, "train"), "val_set": open_dataset(config, "val")}


@pytest.fixture
def new(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return RunDirectory(tmp_path / name)

    return make


def teacher_of(recipe, seed=7):
    return Teacher(
        build_network(recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})}), 10)
    )


def fitted(recipe, data, run, extras=None, observer=None):
    classes = data["train_set"].classes
    card = new_card(recipe.model, classes, contract_of(recipe.data, 1))
    return fit(build_network(recipe, len(classes)), recipe, run, **data, card=card, extras=extras, observer=observer)


@functools.cache
def coupling_of(model):
    network = build(model, num_classes=10).network
    return analyse(network, (torch.zeros(1, 3, 32, 48),))


def made_extras(recipe):
    """All that the recipe needs, built anew as a second process would."""
    coupling = coupling_of(recipe.model.name)
    keep = {group.name: range(group.width // 2) for group in coupling.free}
    network = build_network(recipe, 10).network
    return Extras(
        teacher=teacher_of(recipe) if recipe.train.distill != "none" else None,
        regulariser=make_regulariser(network, recipe.train, coupling=coupling, keep=keep),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"train.distill": "logits", "train.sparsity": "group", "selection.strategy": "random"},
        {"train.distill": "channel", "train.sparsity": "mask", "train.precision": "bf16"},
        {"train.loss": "gsrl", "data.sampler": "balanced", "train.sparsity": "polarisation", "train.optimiser": "sgd"},
        {"train.loss": "gsrl", "data.sampler": "balanced", "selection.strategy": "pfb", "train.rewind_epoch": 1},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_an_interrupted_run_ends_in_the_same_bits_as_a_whole_one(small, data, new, settings):
    recipe = small(**{"selection.start": 0.0, **settings})
    whole, broken = new("whole"), new("broken")
    fitted(recipe, data, whole, made_extras(recipe))
    with pytest.raises(StoppedError):
        fitted(recipe, data, broken, made_extras(recipe), StopAt(4))
    assert fitted(recipe, data, broken, made_extras(recipe)).resumed_after == 1
    assert whole.weights_path.read_bytes() == broken.weights_path.read_bytes()
    if recipe.train.rewind_epoch:
        assert rewind_path(whole).read_bytes() == rewind_path(broken).read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"train.loss": "gsrl"},
        {"data.sampler": "balanced"},
        {"train.sparsity": "l1", "train.sparsity_weight": 0.1},
        {"train.sparsity": "polarisation", "train.sparsity_weight": 0.1},
        {"train.sparsity": "group", "train.sparsity_weight": 0.1},
        {"train.distill": "logits"},
        {"train.distill": "channel", "train.distill_temperature": 2.0},
    ],
    ids=lambda settings: next(iter(settings.values())),
)
def test_each_option_changes_the_weights(small, data, new, plain, settings):
    recipe = small(**{"train.epochs": 1, **settings})
    run = new("run")
    fitted(recipe, data, run, made_extras(recipe))
    assert run.weights_path.read_bytes() != plain


@pytest.fixture(scope="module")
def plain(small, data, tmp_path_factory):
    """The weights after one epoch without any option."""
    run = RunDirectory(tmp_path_factory.mktemp("plain"))
    fitted(small(**{"train.epochs": 1}), data, run)
    return run.weights_path.read_bytes()


def test_a_run_without_extras_is_what_it_was(small, data, new, plain):
    run = new("empty")
    fitted(small(**{"train.epochs": 1}), data, run, Extras())
    assert run.weights_path.read_bytes() == plain


def test_distillation_brings_the_network_closer_to_its_teacher(small, data, new):
    settings = {"train.epochs": 6, "train.lr": 5e-3, "train.distill_temperature": 1.0, "train.distill_weight": 20}
    images = torch.randn(2, 3, 32, 48)

    def distance(distill):
        recipe = small(**settings, **{"train.distill": distill})
        teacher = teacher_of(recipe)
        segmenter = build_network(recipe, 10)
        card = new_card(recipe.model, data["train_set"].classes, contract_of(recipe.data, 1))
        fit(segmenter, recipe, new(distill), **data, card=card, extras=made_extras(recipe))
        segmenter.eval()
        with torch.no_grad():
            return float((segmenter(images).softmax(1) - teacher.logits(images).softmax(1)).abs().mean())

    assert distance("logits") < distance("none")


def test_the_teacher_ends_as_it_was_on_the_cpu(small, data, run):
    recipe = small(**{"train.epochs": 1, "train.distill": "logits"})
    extras = made_extras(recipe)
    before = copy.deepcopy(extras.teacher.segmenter.state_dict())
    fitted(recipe, data, run, extras)
    for name, value in extras.teacher.segmenter.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.device.type == "cpu"


def test_the_strength_of_sparsity_does_not_depend_on_clipping(small, data, new):
    """With gradients clipped to nothing, what moves is the pull alone: lr times its weight times the sign."""
    recipe = small(
        **{
            "train.epochs": 1, "train.optimiser": "sgd", "train.momentum": 0.0, "train.schedule": "poly",
            "train.poly_power": 1e-9, "train.warmup_steps": 0, "train.lr": 0.5, "train.clip_norm": 1e-12,
            "train.sparsity": "l1", "train.sparsity_weight": 0.01, "train.weight_decay": 0.0,
        }
    )  # fmt: skip
    run = new("run")
    fitted(recipe, data, run)
    start = build_network(recipe, 10).network
    tensors = load_file(run.weights_path)
    for name, module in start.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.testing.assert_close(tensors[f"{name}.weight"], module.weight.detach() - 2 * 0.5 * 0.01)


def test_another_teacher_or_plan_is_refused_on_resuming(small, data, run):
    recipe = small(**{"train.distill": "logits"})
    with pytest.raises(StoppedError):
        fitted(recipe, data, run, Extras(teacher_of(recipe, 7)), StopAt(3))
    with pytest.raises(RunError, match="another teacher"):
        fitted(recipe, data, run, Extras(teacher_of(recipe, 8)))
    fitted(recipe, data, run, Extras(teacher_of(recipe, 7)))


def test_what_is_missing_or_unused_is_refused_before_anything_is_written(small, data, run):
    plain = small()
    network = build_network(plain, 10).network
    regulariser = make_regulariser(network, small(**{"train.sparsity": "l1"}).train)
    cases = [
        ({"train.distill": "channel"}, Extras(), "needs a dense network"),
        ({}, Extras(teacher=teacher_of(plain)), "distill is none"),
        ({}, Extras(regulariser=regulariser), "sparsity is none"),
        ({"train.sparsity": "mask"}, Extras(), "mask needs a coupling"),
        ({"train.distill": "logits"}, Extras(teacher=Teacher(build_network(plain, 4))), "4 classes, the network 10"),
    ]
    for settings, extras, message in cases:
        with pytest.raises(ConfigError, match=message):
            fitted(small(**settings), data, run, extras)
    assert list(run.path.iterdir()) == []


def test_a_teacher_that_is_the_student_is_refused(small, data, run):
    recipe = small(**{"train.distill": "logits"})
    segmenter = build_network(recipe, 10)
    card = new_card(recipe.model, data["train_set"].classes, contract_of(recipe.data, 1))
    with pytest.raises(ConfigError, match="shares parameters"):
        fit(segmenter, recipe, run, **data, card=card, extras=Extras(teacher=Teacher(segmenter)))


def test_the_snapshot_is_the_network_after_its_epoch(small, data, new):
    """The last epoch's snapshot is the model; an earlier one is on the way to it, and changes nothing."""
    runs = {epoch: new(str(epoch)) for epoch in (0, 1, 2)}
    reports = {epoch: fitted(small(**{"train.rewind_epoch": epoch}), data, run) for epoch, run in runs.items()}
    assert not rewind_path(runs[0]).exists()
    assert runs[0].weights_path.read_bytes() == runs[1].weights_path.read_bytes()
    model, last = load_file(runs[0].weights_path), load_file(rewind_path(runs[2]))
    assert all(torch.equal(last[name], value) for name, value in model.items())
    network = rebuild(reports[1].card).network
    assert load_rewind_(network, runs[1]) == 1
    assert any(not torch.equal(model[name], value) for name, value in network.state_dict().items())


def test_a_run_begun_anew_forgets_an_earlier_snapshot(small, data, run):
    fitted(small(**{"train.rewind_epoch": 1, "train.epochs": 1}), data, run)
    run.state_path.unlink()
    with pytest.raises(StoppedError):
        fitted(small(**{"train.rewind_epoch": 2}), data, run, observer=StopAt(2))
    assert not rewind_path(run).exists()


def test_a_missing_damaged_or_foreign_snapshot_is_refused(small, data, run):
    recipe = small(**{"train.rewind_epoch": 1, "train.epochs": 1})
    network = build_network(recipe, 10).network
    with pytest.raises(RunError, match=r"train\.rewind_epoch=N"):
        load_rewind_(network, run)
    fitted(recipe, data, run)
    other = build_network(small(**{"model.name": "python:prunekit.models.street:street_net?width=6"}), 10).network
    with pytest.raises(RunError, match="does not fit the network"):
        load_rewind_(other, run)
    content = rewind_path(run).read_bytes()
    for damaged in (b"", content[:50], content[:-9], run.weights_path.read_bytes()):
        rewind_path(run).write_bytes(damaged)
        with pytest.raises(RunError, match=r"rewind\.safetensors is damaged"):
            load_rewind_(network, run)


def test_gsrl_and_balanced_draws_learn(small, data, run):
    recipe = small(**{"train.loss": "gsrl", "data.sampler": "balanced", "train.epochs": 12, "train.lr": 1e-2})
    watch = Losses()
    fitted(recipe, data, run, observer=watch)
    assert sum(watch.values[-4:]) < 0.9 * sum(watch.values[:4])
