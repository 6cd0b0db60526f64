"""A run that somebody else made executes nothing: every command that reads one, every field that can name code."""

import json
import shutil
import sys

import pytest

from prunekit.recipe import merge, parse_recipe
from prunekit.run import RunDirectory
from prunekit.workflows.prune import PruneConfig, prune_run
from prunekit.workflows.train import train

DATA = {"height": 32, "width": 48, "train_images": 4, "val_images": 1}
MODEL = {"name": "python:prunekit.models.street:street_net?width=4"}
TRAIN = {"epochs": 1, "batch_size": 2, "threads": 1, "device": "cpu"}
PRUNING = {"criterion": "l2", "epochs": 1, "align": 1, "batches": 1, "compensate": "none", "bn_batches": 0}

PAYLOAD = """
from pathlib import Path
(Path(__file__).parent / "EXECUTED").touch()
def make(num_classes, **_): raise AssertionError("the factory ran")
net = criterion = make
"""
HUB = r"python:torch.hub:load?repo_or_dir=FOLDER&model=net&source=local"
SPECS = [
    "python:hostile_module:make",
    "python:hostile_module:make?weights=x.pth",
    "python:prunekit.models.street:StreetNet?width=4",
    "python:prunekit.models.street.:street_net",
    "python:prunekit.models.evil:make",
    'python:prunekit.models.zoo:build?spec="python:hostile_module:make"',
    r'python:prunekit.models.zoo:build?spec="\u0070ython:hostile_module:make"',
    'python:prunekit.models.zoo:build?spec="' + HUB.replace("&", r"\u0026") + '"',
    HUB,
    "python:prunekit.models.street:street_net?width=python:hostile_module:make",
    'python:prunekit.models.street:street_net?width=["python:hostile_module:make"]',
    "python:prunekit.models.street:street_net?conv_bn_relu=make",
    "smp:Unet?encoder=tu-hf-hub:hostile/network",
    "smp:Unet?encoder=tu-local-dir:FOLDER",
    r'smp:Unet?encoder="tu-local-dir\u003aFOLDER"',
    "smp:Unet?encoder=tu-resnet18&checkpoint_path=hostile.pth",
    "smp:Unet?encoder=tu-resnet18&pretrained_cfg=hostile",
    "smp:Unet?encoder=tu-resnet18&cache_dir=hostile",
    "smp:Unet?encoder=../hostile",
    'smp:Unet?encoder=resnet18&decoder_channels=[{"a":1}]',
    "torchvision:fcn_resnet50?pretrained=true",
    "torchvision:fcn_resnet50?pretrained_backbone=true",
]
READ_A_MODEL = [
    ["eval", "run"],
    ["export", "run", "--out", "exported"],
    ["inspect", "run"],
    ["profile", "run", "--runs", "1", "--warmup", "0"],
    ["profile", "fine", "--against", "run", "--runs", "1", "--warmup", "0"],
    ["prune", "run", "--out", "new"],
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained run, and its pruning as it is before its fine-tuning."""
    path = tmp_path_factory.mktemp("made")
    recipe = parse_recipe({"data": DATA, "model": MODEL, "train": TRAIN})
    train(recipe, RunDirectory(path / "run"))
    prune_run(RunDirectory(path / "run"), PruneConfig.model_validate(PRUNING), RunDirectory(path / "pruning"))
    report = json.loads((path / "pruning/prune.json").read_text())
    report["stages"][0]["tuned"] = report["finished"] = False
    (path / "pruning/prune.json").write_text(json.dumps(report))
    for name in ("state.safetensors", "metrics.jsonl", "model.json", "model.safetensors"):
        (path / "pruning" / name).unlink()
    return path


@pytest.fixture
def refused(made, invoke, tmp_path, monkeypatch):
    """Give a command in a folder of copies; it must refuse, say how to trust, execute nothing and change nothing."""
    for name in ("run", "pruning"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copytree(made / "run", tmp_path / "fine")
    for name in ("hostile_module.py", "hubconf.py"):
        (tmp_path / name).write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)

    def give(*arguments):
        before = _contents(tmp_path)
        result = invoke(*arguments)
        assert not (tmp_path / "EXECUTED").exists()
        assert "hostile_module" not in sys.modules
        assert result.exit_code == 2
        assert f"If you trust it: prunekit {' '.join(arguments)} --trust-code" in result.stderr
        assert result.stderr.count("Error:") == 1
        assert _contents(tmp_path) == before
        return result

    return give


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def _set(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _spec(spec, tmp_path):
    return spec.replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize("spec", SPECS)
def test_a_recipe_that_came_with_a_run_executes_nothing(refused, tmp_path, spec):
    run = RunDirectory(tmp_path / "run")
    run.write_recipe(parse_recipe({"data": DATA, "model": {"name": _spec(spec, tmp_path)}, "train": TRAIN}))
    for state in (True, False):
        if not state:
            run.state_path.unlink()
        assert "recipe.toml" in refused("train", "--resume", "run").stderr


@pytest.mark.parametrize("spec", SPECS)
def test_a_model_file_executes_nothing(refused, tmp_path, spec):
    _set(tmp_path / "run/model.json", factory=_spec(spec, tmp_path))
    assert "model.json" in refused("eval", "run").stderr


@pytest.mark.parametrize("arguments", READ_A_MODEL, ids=lambda arguments: "-".join(arguments[:2]))
def test_no_command_runs_the_factory_of_a_model_file(refused, tmp_path, arguments):
    _set(tmp_path / "run/model.json", factory=SPECS[0])
    refused(*arguments)


def test_a_resumed_pruning_imports_no_criterion(refused, tmp_path):
    path = tmp_path / "pruning/prune.json"
    _set(path, config=json.loads(path.read_text())["config"] | {"criterion": "python:hostile_module:criterion"})
    assert "prune.json" in refused("prune", "--resume", "pruning").stderr


def test_a_resumed_pruning_runs_no_factory_of_the_network_as_cut(refused, tmp_path):
    _set(tmp_path / "pruning/pruned/model.json", factory=SPECS[0])
    refused("prune", "--resume", "pruning")


@pytest.mark.parametrize("config", [{"distill": "logits"}, {"init": "random"}, {"init": "rewind"}])
def test_a_resumed_pruning_runs_no_factory_of_its_source(refused, tmp_path, config):
    """The teacher, new weights and early weights come from other files than the network as cut."""
    path = tmp_path / "pruning/prune.json"
    where = "pruning/pruned" if config == {"init": "random"} else "fine"
    _set(tmp_path / where / "model.json", factory=SPECS[0])
    _set(path, source="fine", config=json.loads(path.read_text())["config"] | config)
    run = RunDirectory(tmp_path / "pruning")
    run.write_recipe(parse_recipe(merge(run.recipe().model_dump(), {"train.distill": config.get("distill", "none")})))
    refused("prune", "--resume", "pruning")


@pytest.mark.parametrize("spec", SPECS)
def test_a_run_that_is_trained_on_executes_nothing_of_its_recipe(refused, tmp_path, spec):
    run = RunDirectory(tmp_path / "run")
    run.write_recipe(parse_recipe({"data": DATA, "model": {"name": _spec(spec, tmp_path)}, "train": TRAIN}))
    assert "run/recipe.toml" in "".join(refused("train", "--from", "run", "--out", "new").stderr.split())


def test_a_run_whose_model_file_names_other_code_than_its_recipe_is_not_trained_on(invoke, made, tmp_path, monkeypatch):
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "hostile_module.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)
    _set(tmp_path / "run/model.json", factory=SPECS[0])
    for trust in ([], ["--trust-code"]):
        result = invoke("train", "--from", "run", "--out", "new", *trust)
        assert result.exit_code != 0
        assert "Leave model.name" in " ".join(result.stderr.split())
        assert not (tmp_path / "EXECUTED").exists()
        assert "hostile_module" not in sys.modules


def test_a_run_named_as_weights_is_not_trusted_by_the_recipe_that_names_it(invoke, made, tmp_path, monkeypatch):
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "hostile_module.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)
    _set(tmp_path / "run/model.json", factory=SPECS[0])
    settings = [f"--set=data.{key}={value}" for key, value in DATA.items()]
    result = invoke("train", "--weights", "run", "--out", "new", "--epochs", "1", *settings)
    assert result.exit_code != 0
    assert "Leave model.name" in " ".join(result.stderr.split())
    assert not (tmp_path / "EXECUTED").exists()
    assert "hostile_module" not in sys.modules


def test_a_network_of_one_s_own_is_resumed_where_it_is_trusted(invoke, tmp_path, monkeypatch):
    (tmp_path / "own_module_of_resume.py").write_text(
        "from prunekit.models.street import StreetNet\ndef make(num_classes): return StreetNet(num_classes, 4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = [f"--set=data.{key}={value}" for key, value in DATA.items()] + ["--set=train.batch_size=2"]
    typed = ["train", "--model", "python:own_module_of_resume:make", "--epochs", "1", "--threads", "1", *settings]
    assert invoke(*typed).exit_code == 0
    result = invoke("train", "--resume", "runs/0001-train")
    assert result.exit_code == 2
    assert "prunekit train --resume runs/0001-train --trust-code" in result.stderr
    assert invoke("train", "--resume", "runs/0001-train", "--trust-code").exit_code == 0
