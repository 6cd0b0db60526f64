"""Runs as their small files describe them, whatever these hold."""

import json
import os
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import RunUsageError
from prunekit.overview.header import epochs_done, parameters, read_header
from prunekit.overview.listing import list_runs
from prunekit.overview.reading import overview
from prunekit.recipe import Recipe, parse_recipe
from prunekit.run import RunDirectory
from prunekit.tensorfile import write_tensors

RECIPE = parse_recipe({"train": {"epochs": 9}, "model": {"name": "smp:Unet?encoder=resnet18"}})
ROWS = [{"epoch": number, "loss": 1 / number, **({"miou": 0.5} if number == 2 else {})} for number in (1, 2, 3)]


def begun(path, recipe: Recipe = RECIPE, epochs: int = 2) -> RunDirectory:
    run = RunDirectory(path)
    run.write_recipe(recipe)
    run.write_metrics(ROWS)
    write_tensors(run.state_path, {"a": torch.zeros(2)}, {"prunekit": json.dumps({"epochs_done": epochs})})
    return run


def finish(run: RunDirectory) -> None:
    tensors = {"conv.weight": torch.zeros(3, 5), "bn.running_mean": torch.zeros(7), "half": torch.zeros(4).half()}
    write_tensors(run.weights_path, tensors)
    run.model_path.write_text(json.dumps({"factory": "smp:Unet"}))


def pruning(path, **values) -> RunDirectory:
    run = RunDirectory(path)
    path.mkdir(parents=True)
    known = {"source": "/x/0001-train", "planned": [0.2, 0.4], "stages": [{"tuned": True}], "finished": False}
    (path / "prune.json").write_text(json.dumps({**known, "macs_after": 12, "params_after": 5, **values}))
    return run


def test_a_training_that_was_interrupted(tmp_path):
    run = begun(tmp_path / "a run")
    found = overview(run.path)
    assert found is not None
    assert (found.kind, found.state, found.epochs_done, found.epochs) == ("train", "interrupted", 2, 9)
    assert (found.miou, found.loss, found.model) == (0.5, pytest.approx(1 / 3), RECIPE.model.name)
    assert found.go_on == f"prunekit train --resume '{run.path}'"
    assert found.size_bytes == sum(file.stat().st_size for file in run.path.iterdir())


def test_a_training_that_is_over(tmp_path):
    run = begun(tmp_path / "run", epochs=9)
    finish(run)
    found = overview(run.path)
    assert found is not None
    assert (found.state, found.params, found.go_on, found.why) == ("finished", 19, None, "")


def test_a_run_that_a_process_holds(tmp_path):
    run = begun(tmp_path / "run")
    with run.locked():
        found = overview(run.path)
        assert found is not None
        assert (found.state, found.process, found.go_on) == ("running", os.getpid(), None)
    found = overview(run.path)
    assert found is not None
    assert found.state == "interrupted"


def test_a_killed_process_left_its_lock(tmp_path):
    run = begun(tmp_path / "run")
    (run.path / ".lock").write_text(str(2**22 + 1))  # above any process number
    found = overview(run.path)
    assert found is not None
    assert (found.state, found.process) == ("interrupted", None)


def test_prunings(tmp_path):
    between = overview(pruning(tmp_path / "between").path)
    assert between is not None
    assert (between.state, between.stages_done, between.stages, between.parent) == ("interrupted", 1, 2, "0001-train")
    assert (between.macs, between.params, between.epochs) == (12, 5, None)
    assert between.go_on == f"prunekit prune --resume {tmp_path / 'between'}"
    run = pruning(tmp_path / "tuning", stages=[{"tuned": True}, {"tuned": False}])
    begun(run.path)
    tuning = overview(run.path)
    assert tuning is not None
    assert (tuning.stages_done, tuning.epochs_done, tuning.epochs) == (1, 2, 9)
    run = pruning(tmp_path / "first", stages=[{"tuned": False}])
    begun(run.path / "stage-01", epochs=1)
    first = overview(run.path)
    assert first is not None
    assert (first.stages_done, first.epochs_done, first.epochs) == (0, 1, 9)
    run = pruning(tmp_path / "done", finished=True, miou_after=0.25, stages=[{"tuned": True}] * 2)
    finish(run)
    done = overview(run.path)
    assert done is not None
    assert (done.state, done.miou, done.params) == ("finished", 0.25, 5)


def test_imports(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.write_recipe(RECIPE)
    (run.path / "import.json").write_text(json.dumps({"scores": {"miou": 0.75}}))
    half = overview(run.path)
    assert half is not None
    assert (half.kind, half.state, half.go_on) == ("import", "damaged", None)
    finish(run)
    whole = overview(run.path)
    assert whole is not None
    assert (whole.state, whole.miou, whole.epochs) == ("finished", 0.75, None)


@pytest.mark.parametrize("name", ["recipe.toml", "metrics.jsonl", "state.safetensors", "model.json", "prune.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b"[" * 100_000, b'{"format": "\\u001b[2J"}\n', b"\xff" * 8])
def test_damaged_files_are_described(tmp_path, name, content):
    run = begun(tmp_path / "run")
    (run.path / name).write_bytes(content)
    found = overview(run.path)
    assert found is not None
    assert found.state in ("damaged", "interrupted")
    assert found.state == "interrupted" or found.why


def test_links_and_pipes_are_not_waited_for(tmp_path):
    run = begun(tmp_path / "run")
    for name in ("model.json", "model.safetensors", ".lock"):
        os.mkfifo(run.path / name)
    (run.path / "around").symlink_to(run.path)
    found = overview(run.path)
    assert found is not None
    assert found.state == "damaged"


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_a_header_or_none(tmp_path_factory, content, length):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(struct.pack("<Q", length) + content)
    try:
        header = read_header(path)
    except ValueError:
        return
    assert parameters(header) is None or parameters(header) == 0
    assert epochs_done(header) is None


def test_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list_runs() == []
    begun(tmp_path / "runs/0002-train")
    finish(begun(tmp_path / "runs/0001-train"))
    (tmp_path / "runs/holidays").mkdir()
    (tmp_path / "runs/notes.txt").touch()
    assert [found.path.name for found in list_runs()] == ["0001-train", "0002-train"]
    assert [found.path.name for found in list_runs(tmp_path / "runs/0002-train")] == ["0002-train"]
    with pytest.raises(RunUsageError, match=r"does not exist\. Did you mean .*runs\?"):
        list_runs(tmp_path / "rnus")
    with pytest.raises(RunUsageError, match="is a file"):
        list_runs(tmp_path / "runs/notes.txt")


def test_the_parts_of_a_demo(tmp_path):
    finish(begun(tmp_path / "demo/train"))
    found = overview(tmp_path / "demo")
    assert found is not None
    assert (found.kind, found.state, len(found.parts)) == ("demo", "interrupted", 1)
    finish(pruning(tmp_path / "demo/prune", finished=True))
    RunDirectory(tmp_path / "demo/prune").write_recipe(RECIPE)
    found = overview(tmp_path / "demo")
    assert found is not None
    assert (found.state, found.macs) == ("finished", 12)
