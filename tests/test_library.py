"""The front page: what `import prunekit` offers, at what cost, and that the page and its stub say the same."""

import ast
import importlib
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import prunekit

ROOT = Path(__file__).parents[1]
FUNCTIONS = ["analyse", "evaluate", "export", "load", "open_meter", "predict", "prune"]
TYPES = [
    *("Coupling", "Criterion", "Evidence", "Group", "LoadedSegmenter", "ModuleReport", "Plan", "Preprocessing"),
    *("Progress", "ProgressLine", "PrunekitError", "Ranked", "Ranking", "Scored", "Scores", "Segmenter"),
]


def test_the_public_names_are_these() -> None:
    assert sorted(prunekit.__all__) == sorted([*FUNCTIONS, *TYPES, "CRITERIA"])
    assert set(prunekit.__all__) <= set(dir(prunekit))
    assert not [name for name in dir(prunekit) if name.startswith("_") and not name.startswith("__")]
    assert all(inspect.isfunction(getattr(prunekit, name)) for name in FUNCTIONS)
    assert all(inspect.isclass(getattr(prunekit, name)) for name in TYPES)


def test_every_name_is_documented_where_it_is_defined_and_on_the_page() -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    for name in prunekit.__all__:
        assert f"`prunekit.{name}" in page or f"prunekit.{name}(" in page, name
        assert name == "CRITERIA" or inspect.getdoc(getattr(prunekit, name)), name
    for name in FUNCTIONS:
        known = inspect.signature(getattr(prunekit, name)).parameters
        described = re.search(r"Args:\n(.*?)\n\n", inspect.getdoc(getattr(prunekit, name)) or "", re.DOTALL)
        assert described is not None, name
        assert re.findall(r"^    (\w+):", described.group(1), re.MULTILINE) == list(known), name


def test_no_public_name_is_a_module_s() -> None:
    """Importing a module of the package would put it in the place of the function."""
    assert not set(prunekit.__all__) & {module.name for module in pkgutil.iter_modules(prunekit.__path__)}


def test_the_stub_names_the_same_places() -> None:
    tree = ast.parse((ROOT / "prunekit" / "__init__.pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in imports for alias in node.names} == prunekit._PLACES
    for name, module in prunekit._PLACES.items():
        assert getattr(importlib.import_module(module), name) is getattr(prunekit, name)


def test_only_the_front_page_names_a_package_above_the_library() -> None:
    """import-linter sees import statements; the front page looks its names up, which it does not see."""
    naming = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "prunekit").rglob("*.py")
        if re.search(r"[\"']prunekit_(export|cli)", path.read_text())
    ]
    assert naming == ["prunekit/__init__.py"]


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lod'") as error:
        prunekit.lod  # noqa: B018
    assert error.value.name == "lod"
    assert error.value.obj is prunekit
    with pytest.raises(ImportError, match="lod"):
        exec("from prunekit import lod")


def test_the_import_is_cheap() -> None:
    code = """
import sys
before = set(sys.modules)
import prunekit
dir(prunekit), prunekit.__all__, prunekit.__version__
print(sorted(set(sys.modules) - before))
from prunekit import PrunekitError, Preprocessing
assert "torch" not in sys.modules
from prunekit import *
assert callable(prune) and callable(export)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "['prunekit']"


TYPED = """
from typing import assert_type

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import prunekit

def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels)

def told(step: str, done: int, total: int) -> None:
    del step, done, total

model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1))
train_loader = DataLoader(TensorDataset(torch.rand(2, 3, 8, 8)), batch_size=2)
assert_type(prunekit.prune(model, train_loader), nn.Sequential)
pair = prunekit.prune(model, train_loader, 0.5, loss=loss, progress=told, return_report=True)
assert_type(pair, tuple[nn.Sequential, prunekit.ModuleReport])
assert_type(prunekit.load("runs/0002-prune"), prunekit.LoadedSegmenter)
assert_type(prunekit.prune(prunekit.load("runs/0001-train"), train_loader), prunekit.LoadedSegmenter)
assert_type(prunekit.analyse(model, torch.rand(1, 3, 8, 8)), prunekit.Coupling)
assert_type(prunekit.evaluate(model, train_loader, classes=4), prunekit.Scores)
assert_type(prunekit.evaluate("model.onnx", train_loader, ["a", "b"]).miou, float)
assert_type(prunekit.CRITERIA["l2"].name, str)
print(prunekit.export(model, "out", preprocessing=prunekit.Preprocessing(64, 96)).onnx_path)
prunekit.prune(model, train_loader, target_latency_ms=8, meter=prunekit.open_meter("ort"))
"""
WRONG = """
prunekit.prune(model, train_loader, ration=0.5)
prunekit.lod("runs/0002-prune")
prunekit.export(model, "out", precision="fp8")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed")
def test_a_type_checker_sees_the_names(tmp_path: Path) -> None:
    path = tmp_path / "typed_example.py"
    path.write_text(TYPED + WRONG)
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [(row["range"]["start"]["line"], row["rule"]) for row in found if row["severity"] == "error"]
    first = TYPED.count("\n") + 1
    assert [line for line, _ in errors] == [first, first + 1, first + 2], found
