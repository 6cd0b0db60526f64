"""The benchmark of criteria runs at a size for tests, criteria of one's own included."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_criteria_are_compared_and_drawn(tmp_path: Path) -> None:
    table = tmp_path / "criteria.md"
    small = ("--data", "shapes", "--epochs", "1", "--tune-epochs", "1", "--seeds", "1", "--jobs", "2")
    command = [sys.executable, str(ROOT / "benchmarks" / "criteria.py"), *small, "--only", "sirfp", "random"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "runs"), "--table", str(table)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = table.read_text()
    assert "## 50% of the MACs gone" in text
    assert "from random weights" in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith(("| sirfp |", "| random |"))]
    assert sorted(rows) == ["random", "random", "random", "sirfp", "sirfp"], "each ratio, and one difference"
    texts = [element.text for element in ElementTree.parse(table.with_suffix(".svg")).iter() if element.text]
    assert {"sirfp", "random", "50%"} <= {text.strip() for text in texts}
