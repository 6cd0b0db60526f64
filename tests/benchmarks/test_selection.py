"""The benchmark of sample selection runs, compares equal numbers of steps, and goes on where it was stopped."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from prunekit.recipe import merge, parse_recipe

FOLDER = Path(__file__).parents[2] / "benchmarks"
ROWS = ["full", "plain, 60 %", "classes", "fine-tuning, plain"]


@pytest.fixture
def selection(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "selection", raising=False)
    return importlib.import_module("selection")


def test_rows_are_trained_once_and_drawn_up(
    selection: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["selection.py", "--data", "shapes", "--out", str(tmp_path / "out"), "--to", str(tmp_path / "page.md")]
    command += ["--epochs", "1", "--seeds", "1", "--size", "64", "96", "--rows", *ROWS, "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", command)
    selection.main()
    told = capsys.readouterr().out
    assert told.count(": done") == len(ROWS), told
    page = (tmp_path / "page.md").read_text()
    lines = {
        line.split(" | ")[0].lstrip("| "): line.split(" | ") for line in page.splitlines() if line.startswith("| ")
    }
    assert [lines[name][2] for name in ROWS[:3]] == ["32", "19", "19"], "60 % of 32 steps, whoever chooses"
    assert lines["plain, 60 %"][-1].strip(" |") == ""
    assert lines["classes"][-1].strip(" |")[0] in "+-"
    selection.main()
    assert ": done" not in capsys.readouterr().out, "what is there is not trained again"


def test_every_row_is_a_recipe(selection: ModuleType) -> None:
    for overrides in (selection.TRAININGS | selection.TUNINGS).values():
        parse_recipe(merge({}, overrides))
