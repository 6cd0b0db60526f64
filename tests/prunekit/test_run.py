import os
import re
import subprocess
import sys
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
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 1, "miou": None, "iou": [None, 0.5], "more": "kept"}]
    run.write_metrics(rows)
    assert run.metrics() == rows
    row = '{"epoch": 1, "loss": 1}\n'
    damages = (
        *('{"ep', "[1]", "null", "1", "{}", '{"epoch": "x", "loss": 1}', '{"epoch": 2}', '{"epoch": 2, "loss": NaN}'),
        *('{"epoch": 2, "loss": 1e999}', '{"epoch": 2, "loss": 1, "iou": ["x"]}', '{"epoch": 3, "loss": 1}', "\xff"),
        *('{"epoch": 2, "loss": 1, "a": ' + "[" * 100_000, '{"epoch": 2' + "0" * 5000 + ', "loss": 1}', row),
    )
    for damaged in damages:
        run.metrics_path.write_text(row + damaged, encoding="latin-1")
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged") as caught:
            run.metrics()
        assert len(str(caught.value)) < 1000


def test_the_lock_keeps_others_out_and_leaves_nothing(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        with pytest.raises(RunError, match="Another process"):
            run.locked().__enter__()
        with run.locked(held=True):
            assert [path.name for path in run.path.iterdir()] == [".lock"]
        assert (run.path / ".lock").exists()
    assert not run.path.exists()
    run.path.mkdir()
    with run.locked():
        run.write_metrics([{"epoch": 1}])
    assert [path.name for path in run.path.iterdir()] == ["metrics.jsonl"]


def test_the_lock_clears_what_a_kill_left(tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").write_text("7")
    (tmp_path / ".writing-state.safetensors.x").touch()
    (tmp_path / ".writing-model.json.y").symlink_to(tmp_path / "victim")
    (tmp_path / ".writing-folder").mkdir()
    assert not run.is_empty()
    with run.locked():
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".writing-folder", "victim"]
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_in_the_place_of_the_lock_reaches_no_other_file(tmp_path):
    run, victim = RunDirectory(tmp_path / "run"), tmp_path / "victim"
    run.path.mkdir()
    lock = run.path / ".lock"
    for make in (lock.symlink_to, lock.hardlink_to):
        victim.write_text("precious")
        make(victim)
        with pytest.raises(RunError, match=r"\.lock is a link.*Remove it"):
            run.locked().__enter__()
        assert victim.read_text() == "precious"
        lock.unlink()
    lock.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match="Remove it"):
        run.locked().__enter__()
    assert not (tmp_path / "nowhere").exists()
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(RunError, match="Remove it"):
        run.locked().__enter__()


def test_a_file_that_is_a_link_is_replaced_and_not_followed(tmp_path):
    run, victim = RunDirectory(tmp_path / "run"), tmp_path / "victim"
    run.path.mkdir()
    victim.write_text("precious")
    for path in (run.recipe_path, run.metrics_path):
        path.symlink_to(victim)
    run.write_recipe(parse_recipe({}))
    run.write_metrics([])
    assert victim.read_text() == "precious"
    assert not run.recipe_path.is_symlink()
    (run.path / "stage-01").symlink_to(tmp_path)
    with pytest.raises(RunError, match="stage-01 is a link"):
        run.part("stage-01")
    assert run.part("stage-02") == RunDirectory(run.path / "stage-02")


HOLDER = """
import os, sys, time
from pathlib import Path
from prunekit.run import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    if os.fork() == 0:
        time.sleep(float(sys.argv[2]))  # as a data-loading process that outlives the training that was killed
        os._exit(0)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process_whose_children_still_live_is_waited_for(tmp_path):
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "2"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False, timeout=60, close_fds=True)
    assert (tmp_path / ".lock").exists()
    with RunDirectory(tmp_path).locked():
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_of_many_that_want_the_lock_one_has_it_at_a_time(tmp_path):
    inside, refused = [], []

    def take(number):
        try:
            with RunDirectory(tmp_path).locked():
                inside.append(number)
                assert len(inside) == 1
                inside.remove(number)
        except RunError:
            refused.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(400)))
    assert len(refused) < 400
    assert list(tmp_path.iterdir()) == []
