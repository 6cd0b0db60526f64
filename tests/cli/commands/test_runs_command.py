"""`prunekit runs` and `prunekit status`: read from small files, without torch, and printable whatever they hold."""

import json
import os
import subprocess
import sys

import pytest

from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory


@pytest.fixture
def begun(tmp_path):
    run = RunDirectory(tmp_path / "runs/0001-train")
    run.write_recipe(parse_recipe({"train": {"epochs": 9}}))
    run.write_metrics([{"epoch": 1, "loss": 0.5, "miou": 0.25}])
    return run


def test_no_runs(invoke):
    result = invoke("runs")
    assert (result.exit_code, result.stdout) == (0, "There are no runs in runs/. Make one: prunekit train\n")
    assert json.loads(invoke("runs", "--json").stdout) == {"runs": []}
    assert invoke("status").exit_code == 2


def test_a_run_that_was_begun(invoke, begun):
    listed = invoke("runs")
    assert all(word in listed.stdout for word in ("0001-train", "interrupted", "0.2500", "street_net"))
    assert "Next: prunekit train --resume runs/0001-train" in listed.stderr
    told = invoke("status")
    assert "0 of 9" in told.stdout
    assert "Next: prunekit train --resume runs/0001-train" in told.stderr
    report = json.loads(invoke("status", "runs/0001-train", "--json").stdout)
    assert (report["state"], report["epochs"], report["go_on"]) == (
        "interrupted", 9, "prunekit train --resume runs/0001-train",
    )  # fmt: skip
    assert report == json.loads(invoke("runs", "--json").stdout)["runs"][0] | {"age_s": report["age_s"]}


@pytest.mark.parametrize(
    "arguments", [["prune"], ["export"], ["export", "runs/0001-train"], ["eval", "runs/0001-train"]]
)
def test_where_no_run_is_finished_the_one_that_was_begun_is_named(invoke, begun, arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "prunekit train --resume runs/0001-train" in result.stderr
    assert "prunekit status runs/0001-train" in result.stderr


def test_names_of_anyone_are_printable(invoke, tmp_path, begun):
    evil = RunDirectory(tmp_path / "runs/0002-\x1b[2Jtrain")
    evil.path.mkdir()
    (evil.path / "prune.json").write_text(json.dumps({"source": "a/\u202e\x1b[31m", "planned": [1], "stages": 3}))
    (evil.path / "model.json").write_text('{"factory": "\\u001b[31m"}')
    for arguments in (["runs"], ["status", str(evil.path)]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "\x1b[2J" not in result.output
        assert "\u202e" not in result.output


@pytest.mark.parametrize("path", ["runs/0001-trian", "rnus/0001-train", "0001-train"])
def test_a_name_that_is_nearly_right(invoke, begun, path):
    result = invoke("status", path)
    assert result.exit_code == 2
    assert f"Run {path} does not exist. Did you mean runs/0001-train?" in result.stderr


def test_what_is_no_run_is_said(invoke, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    assert "photos is not a run: it holds a.jpg, and no recipe.toml" in invoke("status", "photos").stderr
    assert "is a file, and a run is a folder" in invoke("status", "photos/a.jpg").stderr


@pytest.mark.parametrize("command", [["status"], ["data", "check"]])
def test_a_data_set_that_is_taken_for_a_run(invoke, tmp_path, command):
    (tmp_path / "my town/train/images").mkdir(parents=True)
    result = invoke(*command, "my town")
    assert result.exit_code == 2
    assert "Look at it with: prunekit data check --root 'my town'" in result.stderr


@pytest.mark.parametrize("arguments", [["runs"], ["status"], ["runs", "--json"]])
def test_nothing_heavy_is_imported(begun, tmp_path, arguments):
    code = f"""
import sys
from prunekit_cli.main import app
try:
    app({arguments!r})
except SystemExit as end:
    assert not end.code, end.code
assert not [name for name in ("torch", "numpy", "onnx") if name in sys.modules]
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
