import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from prunekit import __version__
from prunekit_cli import versions
from prunekit_cli.versions import TRIED, lines

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("torch", "says"),
    [
        ("2.11.0", "tried: 2.11 to 2.14"),
        ("2.14.1+cpu", "tried: 2.11 to 2.14"),
        ("2.10.9", "not tried; tried: 2.11 to 2.14"),
        ("2.15.0.dev20270101+cu130", "not tried; tried: 2.11 to 2.14"),
        ("3.0", "not tried; tried: 2.11 to 2.14"),
        ("unknown", "not tried; tried: 2.11 to 2.14"),
    ],
)
def test_versions_are_printed_with_the_range_that_was_tried(monkeypatch, torch, says):
    installed = {"torch": torch, "onnxruntime-gpu": "1.30.1", "tensorrt": "10.3.0"}

    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(versions, "version", version)
    monkeypatch.setitem(TRIED, "torch", ("2.11", "2.14"))
    printed = list(lines())
    assert printed[0] == f"prunekit {__version__}"
    assert printed[1].startswith("python 3.")
    assert printed[2] == f"torch {torch} ({says})"
    assert printed[3].startswith("onnxruntime 1.30.1 (")
    assert printed[4:] == ["tensorrt 10.3.0 (no release was tried)"]


def test_the_command_prints_them(invoke):
    assert invoke("--version").stdout.splitlines() == list(lines())


def test_the_oldest_that_were_tried_are_the_oldest_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["ort"]]
    oldest = dict(re.match(r"([\w-]+)(?:>=([\d.]+))?", line).groups() for line in wanted)
    oldest["python"] = project["requires-python"].removeprefix(">=")
    for name in ("python", "torch", "numpy", "onnx", "onnxruntime"):
        assert TRIED[name][0] == oldest[name], name


def test_the_docs_say_the_same():
    rows = re.findall(
        r"^\| (\w+) \| ([\d.-]+) \| ([\d.-]+) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE
    )
    assert {name: None if old == "-" else (old, new) for name, old, new in rows} == TRIED
