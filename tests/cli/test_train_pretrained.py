"""`train --pretrained` says whose mean and standard deviation it takes."""

import pytest

from prunekit.models.own_preprocessing import OwnPreprocessing


def test_the_adopted_preprocessing_is_shown(invoke, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnPreprocessing({"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}, "smp's resnet18")
    monkeypatch.setattr("prunekit.workflows.preparing.own_preprocessing", lambda _: own)
    monkeypatch.chdir(tmp_path)
    shown = invoke("train", "--model", "python:absent_factory:make", "--pretrained")  # its weights cannot be had
    assert shown.exit_code != 0
    words = " ".join(shown.stderr.split())
    assert "0.1, 0.2, 0.3 and 0.4, 0.5, 0.6, RGB (smp's resnet18)" in words
    assert "smp's" not in invoke("train", "--model", "python:absent_factory:make").stderr
