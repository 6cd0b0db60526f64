"""Errors name what the caller can write: flags on the command line, arguments in Python."""

import ast
import re
from pathlib import Path

import pytest

from prunekit_runtime.spelling import in_python, option, spelled

ROOT = Path(__file__).parents[3]
SHARED = ("prunekit/pruning", "prunekit/workflows/library")  # what the command line and Python both call


def test_the_spelling_follows_the_caller_and_ends_with_the_call() -> None:
    @in_python()
    def called(fails: bool) -> str:
        if fails:
            raise ValueError(option("align", 1))
        return spelled("--target-macs", "target_macs") + " " + option("criterion", "l2")

    assert called(fails=False) == "target_macs criterion='l2'"
    with pytest.raises(ValueError, match="align=1"):
        called(fails=True)
    assert spelled("--target-macs", "target_macs") == "--target-macs"
    assert option("align", 1) == "--align 1"
    with in_python():
        assert called(fails=False).startswith("target_macs")
        assert option("align", 1) == "align=1"


def test_no_shared_error_names_a_flag_alone() -> None:
    files = [path for folder in SHARED for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    for path in files:
        tree = ast.parse(path.read_text())
        spelt = {
            id(part)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("spelled", "option")
            for part in ast.walk(call)
        }
        for raised in ast.walk(tree):
            for part in ast.walk(raised) if isinstance(raised, ast.Raise) else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in spelt:
                    assert not re.search(r"(^|[ '\"(])--[a-z]", part.value), (path, part.value)
