"""The commands, one after the other, on a recipe that takes seconds."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app

TINY = """
[data]
height = 32
width = 48
train_images = 16
val_images = 4

[model]
name = "python:prunekit.models.street:street_net?width=8"
head = "ccs"

[train]
epochs = 2
batch_size = 4
threads = 1
device = "cpu"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder in which the owner's three commands were given, bare but for the recipe's size."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime checks the exported file")
    path = tmp_path_factory.mktemp("chain")
    (path / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for arguments in (
            ["train", "--recipe", "tiny.toml"],
            ["prune", "--ratio", "0.4", "--align", "1", "--epochs", "1", "--batches", "1"],
            ["export"],
            ["export", "runs/0001-train", "--fold", "static", "--dynamic", "--out", "dense"],
        ):
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (arguments, result.output, result.exception)
    return path


@pytest.fixture
def here(folder, invoke, monkeypatch):
    """Invoke commands in that folder."""
    monkeypatch.chdir(folder)
    return invoke


def test_the_commands_find_each_other_s_runs(folder):
    assert (folder / "runs/0001-train/model.safetensors").exists()
    assert (folder / "runs/0002-prune/model.safetensors").exists()
    assert (folder / "runs/0002-prune/export/model.onnx").exists()
    assert (folder / "dense/model.onnx").exists()


def test_exports_are_compared_on_the_run_s_validation_images(folder):
    for path, shapes in ((folder / "runs/0002-prune/export", 1), (folder / "dense", 4)):
        (report,) = json.loads((path / "parity.json").read_text())["files"]
        assert {row["images"] for row in report["rows"]} == {"real", "drawn"}
        assert len({tuple(row["shape"]) for row in report["rows"]}) >= shapes


def test_pruning_keeps_its_promise(here, folder):
    report = json.loads((folder / "runs/0002-prune/prune.json").read_text())
    assert abs(report["ratio_realised"] - 0.4) < 0.05
    assert report["exactness"] <= 1e-4


def test_a_second_export_takes_a_new_folder(here, folder):
    before = sorted(folder.glob("runs/0002-prune/export*"))
    assert here("export", "runs/0002-prune").exit_code == 0
    assert len(sorted(folder.glob("runs/0002-prune/export*"))) == len(before) + 1


def test_eval_agrees_between_the_run_and_its_exact_export(here):
    run = json.loads(here("eval", "runs/0002-prune", "--json").stdout)
    onnx = json.loads(here("eval", "runs/0002-prune/export/model.onnx", "--threads", "1", "--json").stdout)
    assert run["classes"] == onnx["classes"]
    assert run["metrics"]["miou"] == pytest.approx(onnx["metrics"]["miou"], abs=1e-3)
    assert "onnxruntime CPUExecutionProvider" in onnx["ran_on"]


def test_eval_needs_to_know_the_data_outside_a_run(here):
    result = here("eval", "dense/model.onnx")
    assert result.exit_code == 2
    assert "--data" in result.stderr
    sized = [f"--set=data.{key}={value}" for key, value in {"height": 32, "width": 48, "val_images": 2}.items()]
    assert here("eval", "dense/model.onnx", "--data", "shapes", *sized).exit_code == 0


def test_profile_gives_a_ratio_of_alternating_runs(here):
    arguments = ["--against", "runs/0001-train", "--runs", "3", "--warmup", "1", "--threads", "1", "--json"]
    report = json.loads(here("profile", "runs/0002-prune/export/model.onnx", *arguments).stdout)
    first, second = report["report"]["models"]
    assert first["ran_on"].startswith("onnxruntime")
    assert second["ran_on"].startswith("torch")
    assert report["speed_up"] == pytest.approx(second["latency"]["p50_ms"] / first["latency"]["p50_ms"])
    assert first["latency"]["runs"] == second["latency"]["runs"] == 3


def test_profile_of_an_open_size_takes_the_contract_s_or_the_one_given(here):
    arguments = ["profile", "dense/model.onnx", "--runs", "1", "--warmup", "0", "--json"]
    assert json.loads(here(*arguments).stdout)["report"]["height"] == 32
    assert json.loads(here(*arguments, "--height", "40", "--width", "56").stdout)["report"]["width"] == 56


def test_resume_of_a_finished_training_changes_nothing(here, folder):
    weights = folder / "runs/0001-train/model.safetensors"
    before = weights.read_bytes()
    assert here("train", "--resume", "runs/0001-train").exit_code == 0
    assert weights.read_bytes() == before


def test_resume_of_a_pruning_says_which_command(here):
    result = here("train", "--resume", "runs/0002-prune")
    assert result.exit_code == 2
    assert "prunekit prune --resume runs/0002-prune" in result.stderr
    assert here("prune", "--resume", "runs/0002-prune").exit_code == 0


def test_json_is_the_only_thing_on_stdout(here):
    result = here("train", "--recipe", "tiny.toml", "--epochs", "1", "--json")
    report = json.loads(result.stdout)
    assert re.fullmatch(r"runs/\d{4}-train", report["run"])
    assert "changed by" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", "nothing.onnx"], "does not exist"),
        (["profile", "tiny.toml"], "no model|neither"),
        (["profile", "runs/0001-train", "--provider", "tensorrt"], "prunekit export"),
        (["profile", "runs/0001-train", "--height", "32"], "height and width"),
        (["profile", "runs/0001-train", "--runs", "0"], "at least 1"),
        (["profile", "dense/model.onnx", "--provider", "gpu"], "cpu, cuda, tensorrt"),
        (["eval", "runs/0001-train", "--split", "training"], "train, val or test"),
        (["eval", "runs/0001-train", "--set", "train.lr=1"], "no effect"),
        (["export", "runs/0001-train", "--precision", "int9"], "fp32, fp16"),
        (["export", "runs/0001-train", "--fold", "flat"], "exact, static, none"),
        (["export", "runs/0001-train", "--dynamic", "--batch", "2"], "Leave one of them out"),
        (["export", "runs/0001-train", "--tf32"], "Add --trt"),
        (["export", "runs/0001-train", "--out", "runs"], "not empty"),
        (["export", "runs/9999-train"], "does not exist"),
        (["prune", "runs/0001-train", "--ratio", "1.5"], "--ratio"),
        (["prune", "runs/0001-train", "--criterion", "magic"], "--criterion"),
        (["prune", "--resume", "runs/0002-prune", "--ratio", "0.3"], "ratio"),
        (["train", "--resume", "runs/0001-train", "--epochs", "9"], r"train\.epochs"),
        (["train", "--resume", "nowhere"], "does not exist"),
    ],
)
def test_a_wrong_request_gets_one_sentence_and_leaves_nothing(here, folder, arguments, message):
    before = sorted(folder.rglob("*"))
    result = here(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert sorted(folder.rglob("*")) == before


def test_the_labels_of_a_picture_are_the_palette_s_colours():
    from prunekit.data.dataset import ClassMap
    from prunekit_runtime.predicting.drawing import Style

    classes = ClassMap(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    labels = np.array([[0, 1, 255]], dtype=np.uint8)
    assert Style(classes.palette).colours(labels).tolist() == [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]]
