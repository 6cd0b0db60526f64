"""Where a run's data lies when the run, the data or both moved."""

import os
import shutil

import pytest

from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.training.state import fingerprint


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that was begun in a folder above its data and class list."""
    (tmp_path / "old/data").mkdir(parents=True)
    (tmp_path / "old/list.txt").write_text("a\n")
    monkeypatch.chdir(tmp_path / "old")
    run = RunDirectory(tmp_path / "old/runs/0001-train")
    run.write_recipe(parse_recipe({"data": {"name": "folder", "root": "data", "classes": "list.txt"}}))
    return run


def paths(run):
    data = run.recipe().data
    return data.root, data.classes


def test_a_run_that_moves_alone_keeps_its_data(run, tmp_path):
    shutil.move(run.path, tmp_path / "moved")
    moved = RunDirectory(tmp_path / "moved")
    assert paths(moved) == (str(tmp_path / "old/data"), str(tmp_path / "old/list.txt"))


def test_a_run_that_moves_with_its_data_finds_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = RunDirectory(tmp_path / "new/runs/0001-train")
    assert paths(moved) == (str(tmp_path / "new/data"), str(tmp_path / "new/list.txt"))
    assert fingerprint(moved.recipe()) == fingerprint(moved.recipe({"data.root": "/elsewhere"}))


def test_data_that_is_gone_stays_where_it_was_last_seen(run, tmp_path):
    shutil.rmtree(tmp_path / "old/data")
    assert paths(run)[0] == str(tmp_path / "old/data")


def test_a_path_that_is_said_anew_wins_over_both_forms(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = RunDirectory(tmp_path / "new/runs/0001-train")
    assert moved.recipe({"data.root": "nowhere"}).data.root == "nowhere"


def test_a_folder_above_whose_name_is_no_text_does_no_harm(tmp_path, monkeypatch):
    folder = os.path.join(os.fsencode(tmp_path), b"Stra\xdfe")
    os.makedirs(os.path.join(folder, b"data"))
    monkeypatch.chdir(os.fsdecode(folder))
    run = RunDirectory(tmp_path / os.fsdecode(b"Stra\xdfe") / "run")
    run.write_recipe(parse_recipe({"data": {"name": "folder", "root": "data"}}))
    assert run.recipe().data.root == "data"
    monkeypatch.chdir(tmp_path)
    assert os.path.isdir(run.recipe().data.root)
