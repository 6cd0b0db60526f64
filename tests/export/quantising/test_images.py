"""Calibration images: every class is shown where the data set has it, and always the same ones are taken."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunekit_export.quantising import covering


class Masks:
    """A data set of masks alone; 255 does not count."""

    classes = SimpleNamespace(ignore_index=255)

    def __init__(self, labels_NHW: np.ndarray) -> None:
        self.labels_NHW = labels_NHW

    def __len__(self) -> int:
        return len(self.labels_NHW)

    def __getitem__(self, place: int) -> SimpleNamespace:
        return SimpleNamespace(labels_HW=torch.from_numpy(self.labels_NHW[place]))


@pytest.mark.drawn(30)
def test_rare_classes_are_shown(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels_NHW = random.choice(3, (60, 8, 8), p=[0.8, 0.1, 0.1])
    rare = random.choice(60, 3, replace=False)
    for number, place in enumerate(rare):  # a class each, in one image alone
        labels_NHW[place, :2, :2] = 3 + number
    labels_NHW[random.random((60, 8, 8)) < 0.05] = 255
    chosen = covering(Masks(labels_NHW), 6, 8)
    assert len(set(chosen)) == 8
    shown = {int(label) for place in chosen for label in np.unique(labels_NHW[place])}
    present = set(np.unique(labels_NHW).tolist()) - {255}
    assert present <= shown
    assert chosen == covering(Masks(labels_NHW), 6, 8)


def test_a_small_data_set_is_taken_whole() -> None:
    assert covering(Masks(np.zeros((5, 4, 4), np.int64)), 2, 64) == [0, 1, 2, 3, 4]


def test_a_large_one_is_not_read_whole_and_still_gives_as_many_as_asked_for() -> None:
    chosen = covering(Masks(np.zeros((1000, 2, 2), np.int64)), 2, 300)
    assert len(set(chosen)) == 300
