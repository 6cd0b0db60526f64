"""What is installed: the wheel's top-level names, typed packages, and a command line that starts without torch."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"prunekit", "prunekit_cli", "prunekit_export", "prunekit_runtime"}


@pytest.mark.slow
def test_the_wheel_holds_our_packages_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=240)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    tables = [path.name for path in (ROOT / "prunekit/data/public/tables").iterdir()]
    assert len(tables) >= 4
    assert {f"prunekit/data/public/tables/{table}" for table in tables} <= set(names)
    assert not [name for name in names if "test" in name.lower()]


def test_nothing_is_pickled() -> None:
    sources = [path for folder in ("prunekit", "cli", "export", "deploy") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text()
        assert "import pickle" not in text, path
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        for call in calls:
            called = ast.unparse(call.func)
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert called != "torch.save", path
            assert called != "torch.load" or given.get("weights_only") == "True", path


def test_files_stay_small() -> None:
    """The budget of a file is 400 lines: beyond, it does more than one thing."""
    for folder in ("prunekit", "cli", "export", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path
