"""`train --from RUN`: the run's network and recipe, trained on."""

import json

import pytest

from prunekit.modelfile import read_card
from prunekit.run import RunDirectory

ONCE = ("--epochs=1", "--size=32x48", "--set=data.train_images=8", "--set=data.val_images=4", "--threads=1")


@pytest.fixture
def trained(invoke, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("train", *ONCE, "--lr=0.004").exit_code == 0
    return tmp_path / "runs/0001-train"


def test_a_run_is_trained_on_with_int8_roundings(trained, invoke) -> None:
    done = invoke("train", "--from", "runs/0001-train", "--qat")
    assert done.exit_code == 0, done.stderr
    words = " ".join(done.stderr.split())
    assert "the run 0001-train" in words
    assert "weights and inputs of layers to int8" in words
    assert "0.0004" in words, "a tenth of the run's rate, shown"
    rows = json.loads(invoke("runs", "--json").stdout)
    assert [row["parent"] for row in (rows if isinstance(rows, list) else rows["runs"])] == [None, "0001-train"]
    again = invoke("train", "--resume", "runs/0002-train")
    assert again.exit_code == 0, again.stderr


@pytest.mark.parametrize("given", [["--model", "street_net"], ["--weights", "w.pth"], ["--recipe", "r.toml"]])
def test_what_the_run_says_itself_is_refused_as_it_was_typed(trained, invoke, given) -> None:
    (trained.parent.parent / "r.toml").write_text("")
    refused = invoke("train", "--from", "runs/0001-train", *given)
    assert refused.exit_code == 2
    assert f"{given[0]}: --from takes the network and the recipe of the run" in " ".join(refused.stderr.split())
    assert not (trained.parent / "0002-train").exists()


def test_a_folder_that_is_no_run_is_refused(trained, invoke, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refused = invoke("train", "--from", "empty")
    assert refused.exit_code != 0
    assert "Traceback" not in refused.stderr
    assert "empty" in refused.stderr


def test_qat_of_a_new_network_is_a_setting_like_any_other(trained, invoke) -> None:
    assert invoke("train", *ONCE, "--qat").exit_code == 0
    run = RunDirectory(trained.parent / "0002-train")
    assert run.recipe().train.qat
    assert read_card(run).lineage[-1]["qat"] is True
    assert "qat" not in read_card(RunDirectory(trained)).lineage[-1]
