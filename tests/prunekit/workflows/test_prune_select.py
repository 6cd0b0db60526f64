"""Selection in the fine-tuning of a pruning: the steps are fewer, in every stage, and a kill costs nothing."""

import pytest

from prunekit.training.events import Silent, StartEvent
from prunekit.workflows.prune import prune_run, resume_prune


class Watch(Silent):
    def __init__(self, stop_after: int | None = None) -> None:
        self.started: list[StartEvent] = []
        self.epochs, self.stop_after = 0, stop_after

    def on_start(self, event) -> None:
        self.started.append(event)

    def on_epoch(self, _) -> None:
        self.epochs += 1
        if self.epochs == self.stop_after:
            raise KeyboardInterrupt


WIDE = {"train.batch_size": 2}  # 4 steps an epoch
CHOSEN = {"select": "classes", "select_ratio": 0.4, "epochs": 3, "stage_epochs": 2, "settings": WIDE}


def test_each_stage_takes_fewer_steps(source, new_run, config) -> None:
    plain, chosen = Watch(), Watch()
    prune_run(source, config(**{**CHOSEN, "select": "none"}), new_run("plain"), observer=plain)
    settings = config(**CHOSEN, schedule="iterative", stages=(0.25,))
    prune_run(source, settings, new_run("chosen"), observer=chosen)
    assert [(event.run_steps, event.full_steps) for event in plain.started] == [(12, 12)]
    assert [(event.run_steps, event.full_steps) for event in chosen.started] == [(5, 8), (7, 12)]
    assert {event.strategy for event in chosen.started} == {"classes"}


def test_an_interrupted_fine_tuning_ends_in_the_same_bits(source, new_run, config) -> None:
    whole, broken = new_run("whole"), new_run("broken")
    prune_run(source, config(**CHOSEN), whole)
    with pytest.raises(KeyboardInterrupt):
        prune_run(source, config(**CHOSEN), broken, observer=Watch(stop_after=2))
    resume_prune(broken)
    assert broken.weights_path.read_bytes() == whole.weights_path.read_bytes()


def test_the_losses_of_a_training_are_those_of_a_fine_tuning(source, new_run, config) -> None:
    settings = {"train.class_weights": "sqrt", "train.dice_weight": 0.5}
    run = new_run("focal")
    prune_run(source, config(loss="focal", settings=settings), run)
    train = run.recipe().train
    assert (train.loss, train.class_weights, train.dice_weight) == ("focal", "sqrt", 0.5)
