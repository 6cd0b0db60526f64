"""Strategies that choose before drawing: what they take, how many steps that leaves, and that it can be repeated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.data.dataset import ClassMap, Sample
from prunekit.data.loading import train_batches
from prunekit.data.registry import open_dataset
from prunekit.errors import ConfigError, DataError
from prunekit.recipe import TrainConfig
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.training.selection import StepPlan, make_chooser, make_plan
from prunekit.training.selection.classes import greedy
from prunekit.training.selection.registry import CHOOSERS
from prunekit.workflows.train import train


class StoppedError(Exception):
    pass


class Watch(Silent):
    def __init__(self, stop: int = 0) -> None:
        self.stop, self.steps = stop, []

    def on_step(self, event):
        self.steps.append(event)
        if len(self.steps) == self.stop:
            raise StoppedError


class Painted:
    """Images whose labels are one number a sample."""

    classes = ClassMap(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))

    def __init__(self, *labels: int) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        labels_HW = torch.full((32, 48), self.labels[index], dtype=torch.uint8)
        labels_HW[:16] = self.labels[0]
        return Sample(torch.zeros(3, 32, 48, dtype=torch.uint8), labels_HW, str(index))


AHEAD = {"train.epochs": 6, "selection.ratio": 0.4, "selection.start": 0.1, "selection.end": 0.9, "train.batch_size": 2}
histograms = st.integers(2, 10).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, 5), st.integers(0, 10**6)))


def _chooser(recipe, data):
    return make_chooser(recipe, data, make_plan(recipe, data))


@given(histograms, st.integers(1, 10))
def test_each_pick_gains_the_most_of_all_that_are_left(drawn, count):
    rows, classes, seed = drawn
    amounts_PK = np.random.default_rng(seed).random((rows, classes)) ** 3
    taken = greedy(amounts_PK, min(count, rows))
    assert len(set(taken)) == len(taken) == min(count, rows)
    for done, pick in enumerate(taken):
        left = [row for row in range(rows) if row not in taken[:done]]
        value = {row: np.sqrt(amounts_PK[[*taken[:done], row]].sum(axis=0)).sum() for row in left}
        assert value[pick] == pytest.approx(max(value.values()), rel=1e-12)


@given(histograms)
def test_the_order_of_the_pool_does_not_decide_unless_rows_are_alike(drawn):
    rows, classes, seed = drawn
    rng = np.random.default_rng(seed)
    amounts_PK, order = rng.random((rows, classes)), rng.permutation(rows)
    assert [int(order[pick]) for pick in greedy(amounts_PK[order], rows // 2)] == greedy(amounts_PK, rows // 2)
    assert greedy(np.ones((rows, classes)), rows) == list(range(rows))


@settings(max_examples=200)
@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_steps_are_what_ratio_and_budget_say(epochs, steps, budget, ratio, one, two):
    config, window = TrainConfig(epochs=epochs, budget=budget), (min(one, two), max(one, two))
    width = window[1] - window[0]
    inside = 0 if ratio == 0 else ratio / width if width > ratio else 1
    if steps * budget * (1 - inside) < 1:
        with pytest.raises(ConfigError, match=r"Raise train\.budget"):
            StepPlan.of(config, steps, ratio, window)
        return
    plan = StepPlan.of(config, steps, ratio, window)
    wanted = steps * budget * epochs * (1 - ratio)
    assert abs(plan.whole - wanted) <= 0.5 + 1e-5
    assert sum(plan.steps(epoch) for epoch in range(epochs)) == plan.whole
    assert min(plan.steps(epoch) for epoch in range(epochs)) >= 1
    last = plan.place(epochs - 1, plan.steps(epochs - 1) - 1)
    assert (last.run_step, last.run_steps) == (plan.whole - 1, plan.whole)


@pytest.mark.parametrize("strategy", [*CHOOSERS, "none"])
def test_a_run_takes_the_planned_steps_and_the_rate_falls_to_its_end(tiny, run, strategy):
    recipe = tiny(**AHEAD, **{"selection.strategy": strategy, "train.budget": 0.9})
    watch = Watch()
    report = train(recipe, run, watch)
    share = 0.9 if strategy == "none" else 0.9 * (1 - 0.4)
    assert len(watch.steps) == report.steps == watch.steps[-1].run_steps == round(36 * share)
    assert report.full_steps == 36
    assert all(step.kept == 2 for step in watch.steps)
    rows = run.metrics()
    assert (sum(row["steps"] for row in rows), sum(row["images"] for row in rows)) == (report.steps, report.images_kept)
    assert watch.steps[-1].lr < 0.02 * recipe.train.lr
    assert [step.run_step for step in watch.steps] == list(range(1, report.steps + 1))


@pytest.mark.parametrize("strategy", CHOOSERS)
def test_an_interrupted_run_ends_in_the_same_bits(tiny, tmp_path, strategy):
    recipe = tiny(**AHEAD, **{"selection.strategy": strategy})
    runs = [RunDirectory(tmp_path / name) for name in ("whole", "broken")]
    for run in runs:
        run.path.mkdir()
    train(recipe, runs[0])
    for stop in (8, 9):
        with pytest.raises(StoppedError):
            train(recipe, runs[1], Watch(stop))
    train(recipe, runs[1])
    assert runs[0].weights_path.read_bytes() == runs[1].weights_path.read_bytes()


@pytest.mark.parametrize("strategy", CHOOSERS)
def test_choices_follow_the_seed_and_not_the_workers_or_the_cache(tiny, strategy):
    drawn = []
    for seed, workers, cache in ((0, 0, True), (0, 2, False), (1, 0, True)):
        recipe = tiny(
            **AHEAD,
            **{"selection.strategy": strategy, "train.seed": seed, "train.workers": workers, "train.cache": cache},
        )
        data = open_dataset(recipe.data, "train")  # a new one: no masks are known of it
        chooser = _chooser(recipe, data)
        chosen = chooser.choose(2)
        batches = train_batches(
            data, recipe.data, batch_size=2, seed=seed, epoch=2, workers=workers, cache=cache, chosen=chosen
        )
        drawn.append(torch.stack([batch.images_B3HW for batch in batches]))
        assert all(len(batch) == 2 for batch in chosen)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_plain_training_of_a_budget_goes_on_through_whole_passes(tiny, tiny_data):
    data = tiny_data["train_set"]
    whole, part = (_chooser(tiny(**AHEAD, **{"train.budget": budget}), data) for budget in (1.0, 0.5))
    full = [batch for epoch in range(6) for batch in whole.choose(epoch)]
    assert [batch for epoch in range(6) for batch in part.choose(epoch)] == full[: len(full) // 2]


def test_views_of_the_rare_class_are_taken_and_equal_ones_in_their_order(tiny):
    recipe = tiny(
        **AHEAD, **{"selection.strategy": "classes", "data.scale_min": 1, "data.scale_max": 1, "selection.pool": 6}
    )
    rare = Painted(0, *[1] * 10, 2)
    assert all(11 in [key.index for key in batch] for batch in _chooser(recipe, rare).choose(3))
    alike = Painted(0, *[1] * 11)
    alike.labels = (0,) * 0 + (1,) * 12
    alike.__class__ = type("Halves", (Painted,), {"__getitem__": _half})
    chooser = _chooser(recipe, alike)
    first = chooser.choose(3)[0]
    assert [key.index for key in first] == [key.index for key in _order(3)[:2]]


def _half(_: Painted, index: int) -> Sample:
    labels_HW = torch.zeros(32, 48, dtype=torch.uint8)
    labels_HW[16:] = 1
    return Sample(torch.zeros(3, 32, 48, dtype=torch.uint8), labels_HW, str(index))


def _order(epoch: int):
    from prunekit.data.loading import epoch_views

    return epoch_views(12, 0, epoch)


@pytest.mark.parametrize("labels", [(1, 1, 1, 1), (255, 255, 255, 255)])
def test_masks_without_two_classes_are_refused(tiny, labels):
    recipe = tiny(**AHEAD, **{"selection.strategy": "classes"})
    with pytest.raises(DataError, match=r"one class only \(b\)|no class"):
        _chooser(recipe, Painted(*labels))


def test_a_pool_below_the_batch_and_two_choosers_are_refused(tiny, tiny_data):
    with pytest.raises(ConfigError, match=r"selection\.pool"):
        tiny(**{"selection.pool": 0.5})
    recipe = tiny(**{"selection.strategy": "classes", "data.sampler": "balanced", "train.batch_size": 2})
    with pytest.raises(ConfigError, match="Leave one out"):
        _chooser(recipe, tiny_data["train_set"])
