"""Which folder a command writes to: its own from the first instant, and as it was where the command is refused."""

import pytest

from prunekit.errors import RunError
from prunekit_cli.folders import target_run
from prunekit_cli.options.common import OptionError
from prunekit_runtime.errors import PrunekitError


def fail(out, kind="train"):
    with target_run(out, kind):
        raise PrunekitError("refused")


@pytest.mark.parametrize("kind", ["train", "prune", "demo"])
def test_two_commands_do_not_take_one_folder(tmp_path, kind):
    with target_run(tmp_path / "out", "train") as run:
        with pytest.raises(RunError, match="Another process"):
            fail(tmp_path / "out", kind)
        run.write_metrics([])
    with pytest.raises(OptionError, match="not empty"):
        fail(tmp_path / "out", kind)
    assert [path.name for path in run.path.iterdir()] == ["metrics.jsonl"]


def test_a_refused_command_leaves_folders_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for out in (None, tmp_path / "there", tmp_path / "new"):
        with pytest.raises(PrunekitError, match="refused"):
            fail(out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["runs", "there"]


def test_what_a_killed_command_left_is_no_work(tmp_path):
    for name in (".lock", ".writing-recipe.toml.x"):
        (tmp_path / name).touch()
    with target_run(tmp_path, "train") as run:
        assert [path.name for path in run.path.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["recipe.toml", "holiday.jpg", ".hidden"])
def test_a_folder_with_work_in_it_is_refused_untouched(tmp_path, name):
    (tmp_path / name).write_text("work")
    for out in (tmp_path, tmp_path / name):
        with pytest.raises(OptionError, match="not empty"):
            fail(out)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "work"


@pytest.mark.parametrize(
    ("holds", "advice"),
    [
        (["recipe.toml"], "prunekit train --resume"),
        (["prune.json"], "prunekit prune --resume"),
        (["recipe.toml", "prune.json"], "prunekit prune --resume"),
        (["recipe.toml", "model.json"], "Name a new folder"),
        (["holiday.jpg"], "Name a new folder"),
    ],
)
def test_a_run_that_was_interrupted_there_is_what_to_go_on_with(tmp_path, holds, advice):
    for name in holds:
        (tmp_path / name).touch()
    with pytest.raises(OptionError, match=advice) as refusal:
        fail(tmp_path)
    assert ("--resume" in str(refusal.value)) == ("--resume" in advice)
