"""Commands on a data set of the user's own: theirs where they name it, somebody's where a run does."""

import json
import shlex
import sys

import pytest

from prunekit.run import RunDirectory

NAME = "python:their_shapes:Squares"
TRAIN = ("--model=python:prunekit.models.street:street_net?width=8", "--epochs=1", "--batch-size=2", "--size=32x32")
PRUNE = ("--ratio=0.3", "--align=1", "--epochs=0", "--batches=1", "--bn-batches=1", "--out=pruned")
TEXT = """
import numpy as np


class Squares:
    classes = ["ground", "square"]

    def __init__(self, root, split):
        self.count = {"train": 4, "val": 2}[split]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        labels_HW = np.zeros((32, 32), dtype=np.uint8)
        labels_HW[4:20, index : index + 16] = 1
        return np.stack([200 * labels_HW] * 3, axis=2), labels_HW
"""


@pytest.fixture
def trained(invoke, tmp_path, monkeypatch):
    (tmp_path / "their_shapes.py").write_text(TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    result = invoke("train", f"--data={NAME}", *TRAIN, "--device=cpu", "--threads=1", "--out=run")
    assert result.exit_code == 0, result.stderr
    assert "prunekit prune run --ratio 0.5 --trust-code" in result.stderr
    yield tmp_path / "run"
    sys.modules.pop("their_shapes", None)


def test_a_run_of_it_is_evaluated_pruned_and_gone_on_with_where_it_is_trusted(trained, invoke, tmp_path):
    (trained / "model.safetensors").unlink()
    (trained / "model.json").unlink()
    (tmp_path / "their_shapes.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{TEXT}")
    for command in (("train", "--resume=run"), ("eval", "run", "--json"), ("prune", "run", *PRUNE)):
        sys.modules.pop("their_shapes", None)
        result = invoke(*command)
        assert result.exit_code == 2
        assert NAME in result.stderr
        assert not (tmp_path / "ran").exists()
        advised = shlex.split(result.stderr.partition("If you trust it: ")[2])
        assert advised == ["prunekit", *command, "--trust-code"]
        result = invoke(*advised[1:])
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / "ran").exists()
        (tmp_path / "ran").unlink()
    assert RunDirectory(tmp_path / "pruned").recipe().data.name == NAME


def test_what_is_named_with_a_command_is_the_user_s_own(trained, invoke):
    report = json.loads(invoke("eval", "run", f"--data={NAME}", "--json").stdout)
    assert (report["data"], report["images"]) == (NAME, 2)
    result = invoke("eval", "run", "--data=python:their_shapes:Squres")
    assert "Is it Squares?" in result.stderr
