"""Commands on a folder of images: labels that are lost, and data that lies elsewhere than it did."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from prunekit.run import RunDirectory

SIZE = ("--set=data.height=32", "--set=data.width=32", "--device=cpu", "--threads=1")
MODEL = "python:prunekit.models.street:street_net?width=8"
PRUNE = ("--ratio=0.3", "--align=1", "--epochs=1", "--batches=1", "--bn-batches=1")


def write(root, value):
    """Write squares of `value` on 0, two classes."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            mask = np.zeros((32, 32), dtype=np.uint8)
            mask[4:20, number : number + 16] = value
            pixels = random.integers(0, 80, (32, 32, 3)).astype(np.uint8)
            pixels[mask > 0] = (220, 30, 30)
            for part, array in (("images", pixels), ("masks", mask)):
                (root / split / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / split / part / f"{split}{number}.png")
    (root / "classes.csv").write_text("name,r,g,b\nbackground,0,0,0\nobject,255,0,0\n")
    return root


def train(invoke, *arguments, epochs=1):
    return invoke("train", "--data=folder", "--model", MODEL, f"--epochs={epochs}", "--batch-size=2", *SIZE, *arguments)


@pytest.fixture
def trained(invoke, tmp_path):
    """A run beside its data, trained with a path that holds in one folder only."""
    write(tmp_path / "data", 1)
    result = train(invoke, "--root=data", "--out=run")
    assert result.exit_code == 0, result.stderr
    return tmp_path / "run"


def test_a_training_shows_and_keeps_the_pixels_by_class(trained, invoke):
    kept = json.loads((trained / "labels.json").read_text())
    assert kept["classes"] == ["background", "object"]
    assert kept["train"]["pixels"] == [4 * (1024 - 256), 4 * 256]
    assert kept["val"]["shares"] == [0.75, 0.25]
    report = json.loads(invoke("eval", "run", "--json").stdout)
    assert report["labels"] == {"images": 2, "counted": 2, "pixels": [1536, 512], "ignored": 0}
    assert "25.00 %" in invoke("eval", "run").stdout


def test_lost_labels_stop_a_training_and_leave_no_run(invoke, tmp_path):
    write(tmp_path / "data", 255)
    result = train(invoke, "--root=data")
    assert result.exit_code == 1
    assert "--set data.mask_values=0,255" in result.stderr
    assert not list(tmp_path.glob("runs/*"))
    result = train(invoke, "--root=data", "--set", "data.mask_values=0,255")
    assert result.exit_code == 0
    assert "object" in result.stderr
    assert "25.00 %" in result.stderr
    result = train(invoke, "--root=data", "--set", "data.allow_absent_classes=true")
    assert result.exit_code == 0
    assert "No counted training pixel is object." in result.stderr


def test_a_run_works_from_another_folder(trained, invoke, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invoke("eval", "../run").exit_code == 0
    result = invoke("prune", "../run", *PRUNE, "--out=pruned")
    assert result.exit_code == 0, result.stderr
    assert RunDirectory(tmp_path / "elsewhere/pruned").recipe().data.root == str(tmp_path / "data")


def test_a_run_and_its_data_may_move_together(trained, invoke, tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("data", "run"):
        shutil.move(tmp_path / name, tmp_path / "disk" / name)
    assert invoke("eval", "disk/run").exit_code == 0
    assert RunDirectory(tmp_path / "disk/run").recipe().data.root == str(tmp_path / "disk/data")


def test_every_command_that_reads_data_is_told_where_it_went(trained, invoke, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime checks the exported file")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    commands = {
        ("eval", "run"): (),
        ("prune", "run"): (*PRUNE, "--out=pruned"),
        ("export", "run"): ("--precision=fp16",),
    }
    for command, more in commands.items():
        result = invoke(*command, *more)
        assert result.exit_code == 2, command
        assert f"{tmp_path / 'data'} does not exist" in result.stderr
        assert "--root DIR" in result.stderr
        result = invoke(*command, *more, "--root=moved")
        assert result.exit_code == 0, result.stderr
    assert RunDirectory(tmp_path / "pruned").recipe().data.root == str(tmp_path / "moved")


def test_an_interrupted_training_goes_on_with_data_that_moved(trained, invoke, tmp_path):
    recipe = (trained / "recipe.toml").read_text()
    weights = (trained / "model.safetensors").read_bytes()
    (trained / "model.safetensors").unlink()
    (trained / "model.json").unlink()
    shutil.move(tmp_path / "data", tmp_path / "moved")
    result = invoke("train", "--resume=run")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
    assert "--root DIR" in result.stderr
    result = invoke("train", "--resume=run", "--root=moved")
    assert result.exit_code == 0, result.stderr
    assert (trained / "model.safetensors").read_bytes() == weights
    assert recipe.count(str(tmp_path / "data")) == 1


def test_an_interrupted_pruning_goes_on_with_data_that_moved(trained, invoke, tmp_path):
    assert invoke("prune", "run", *PRUNE, "--out=pruned").exit_code == 0
    pruned = tmp_path / "pruned"
    weights = (pruned / "model.safetensors").read_bytes()
    report = json.loads((pruned / "prune.json").read_text())
    report["finished"] = report["stages"][0]["tuned"] = False
    (pruned / "prune.json").write_text(json.dumps(report))
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert "--root DIR" in invoke("prune", "--resume=pruned").stderr
    result = invoke("prune", "--resume=pruned", "--root=moved")
    assert result.exit_code == 0, result.stderr
    assert (pruned / "model.safetensors").read_bytes() == weights


def test_going_on_with_other_classes_is_refused(trained, invoke, tmp_path):
    (tmp_path / "data/classes.csv").write_text("name,r,g,b\nobject,255,0,0\nbackground,0,0,0\n")
    result = invoke("train", "--resume=run")
    assert result.exit_code == 2
    assert "class list" in result.stderr


def test_evaluating_with_classes_in_another_order_is_refused(trained, invoke, tmp_path):
    (tmp_path / "turned.csv").write_text("object,255,0,0\nbackground,0,0,0\n")
    result = invoke("eval", "run", "--set", "data.classes=turned.csv")
    assert result.exit_code == 2
    assert "Class 0 is 'background' in the model and 'object' in the data set" in result.stderr
