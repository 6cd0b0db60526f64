"""`train --pretrained` says whose mean and standard deviation it takes."""

import pytest

from prunekit.models.own_preprocessing import OwnPreprocessing
from prunekit.recipe import Recipe
from prunekit.workflows.train import build_network

ONCE = ("--epochs=1", "--size=32x48", "--set=data.train_images=8", "--set=data.val_images=4", "--threads=1")


def test_the_adopted_preprocessing_is_shown(invoke, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnPreprocessing({"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}, "smp's resnet18")
    monkeypatch.setattr("prunekit.workflows.preparing.own_preprocessing", lambda _: own)
    monkeypatch.chdir(tmp_path)
    # Pretrained weights cannot be downloaded in a test; what is shown does not depend on them.
    monkeypatch.setattr(
        "prunekit.workflows.train.build_network", lambda _, classes, **state: build_network(Recipe(), classes, **state)
    )
    shown = invoke("train", "--pretrained", *ONCE)
    assert shown.exit_code == 0, shown.stderr
    words = " ".join(shown.stderr.split())
    assert "0.1, 0.2, 0.3 and 0.4, 0.5, 0.6, RGB (smp's resnet18)" in words
    assert "smp's" not in invoke("train", *ONCE).stderr
