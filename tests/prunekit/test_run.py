import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from prunekit.errors import RunError
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory, new_run, newest_run, open_run, replacing, write_atomically


def test_runs_are_numbered_and_the_newest_finished_one_is_found(tmp_path):
    with pytest.raises(RunError, match="prunekit train"):
        newest_run(tmp_path)
    first, second, third = (new_run(kind, tmp_path) for kind in ("train", "prune", "train"))
    assert [run.path.name for run in (first, second, third)] == ["0001-train", "0002-prune", "0003-train"]
    first.model_path.touch()
    second.model_path.touch()
    assert newest_run(tmp_path) == second
    assert newest_run(tmp_path, kinds=("train",)) == first


def test_a_thousand_runs_later_the_order_still_holds(tmp_path):
    (tmp_path / "9999-train").mkdir()
    run = new_run("train", tmp_path)
    assert run.path.name == "10000-train"
    run.model_path.touch()
    (tmp_path / "9999-train" / "model.json").touch()
    assert newest_run(tmp_path) == run


def test_runs_made_at_once_get_numbers_of_their_own_whatever_their_kind(tmp_path):
    kinds = ["train", "prune", "export"] * 12
    with ThreadPoolExecutor(12) as pool:
        runs = list(pool.map(lambda kind: new_run(kind, tmp_path), kinds))
    numbers = [run.path.name.split("-")[0] for run in runs]
    assert len(set(numbers)) == len(kinds)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(run.path.name for run in runs)


def test_a_folder_that_is_no_run_is_refused_with_those_that_are(tmp_path):
    run = new_run("train", tmp_path)
    with pytest.raises(RunError, match=r"does not exist.*0001-train"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no recipe\.toml"):
        open_run(run.path)
    run.write_recipe(parse_recipe({"train": {"epochs": 3}}))
    with pytest.raises(RunError, match=f"Did you mean {re.escape(str(run.path))}"):
        open_run(run.recipe_path)
    assert open_run(run.path).recipe().train.epochs == 3


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted_write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def _interrupted_write(path):
    with replacing(path) as temporary:
        temporary.write_bytes(b"new, half")
        raise KeyboardInterrupt


def test_metrics_go_round_and_a_damaged_line_is_named(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.metrics() == []
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "miou": None}]
    run.write_metrics(rows)
    assert run.metrics() == rows
    run.metrics_path.write_text('{"epoch": 1}\n{"ep')
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        run.metrics()


def test_a_claim_keeps_others_out_and_writes_nothing(tmp_path):
    run = RunDirectory(tmp_path)
    with run.claimed():
        with run.locked(), pytest.raises(RunError, match="Another process"):
            run.claimed().__enter__()
        (tmp_path / ".lock").unlink()
        assert list(tmp_path.iterdir()) == []
    with run.claimed():
        assert run.path.exists()


def test_the_lock_keeps_others_out_and_clears_what_a_kill_left(tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / ".writing-state.safetensors.x").touch()
    with run.locked():
        assert not (tmp_path / ".writing-state.safetensors.x").exists()
        with pytest.raises(RunError, match=re.escape(str(tmp_path))):
            run.locked().__enter__()
    with run.locked():
        assert run.path.exists()
