"""The device's promise: Python 3.10, numpy and nothing else."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import prunekit_runtime

PACKAGE = Path(prunekit_runtime.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Loaded by name when a model asks for them, never by an import statement.
HEAVY = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "typer",
    "rich",
    "pydantic",
    "PIL",
    "cv2",
    "safetensors",
)

IMPORT_ALL = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
for name in {modules!r}:
    importlib.import_module(name)
from prunekit_runtime.__main__ import main
try:
    main(["--help"])
except SystemExit as stop:
    sys.exit(stop.code)
"""


def modules() -> list[str]:
    inside = (path.relative_to(PACKAGE.parent).with_suffix("") for path in FILES if not path.stem.startswith("__"))
    return [".".join(path.parts) for path in inside]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_is_python_3_10_and_imports_numpy_only(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"numpy", "prunekit_runtime"}
    assert not foreign
    assert not imported & {"tomllib", "pickle"}  # tomllib came with Python 3.11


def run_imports(python: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = IMPORT_ALL.format(heavy=HEAVY, modules=modules())
    return subprocess.run(
        [python, "-W", "error", "-c", script],
        cwd=cwd,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_module_imports_without_the_heavy_packages(tmp_path: Path) -> None:
    done = run_imports(sys.executable, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout


def test_every_module_imports_on_python_3_10(tmp_path: Path) -> None:
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "-c", "import numpy"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 with numpy at hand")
    done = run_imports(python, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
