"""The benchmark of criteria runs at a size for tests, picks up where it was, and the page of allocations reads it."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("--data", "shapes", "--epochs", "1", "--tune-epochs", "1", "--seeds", "1", "--jobs", "2")


def printed(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_criteria_are_compared_and_drawn(tmp_path: Path) -> None:
    table, out = tmp_path / "criteria.md", tmp_path / "runs"
    places = ("--out", str(out), "--table", str(table))
    printed("criteria.py", *SMALL, *places, "--only", "sirfp", "random")
    text = table.read_text()
    assert "## 50% of the MACs gone" in text
    assert "from random weights" in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith(("| sirfp |", "| random |"))]
    assert sorted(rows) == ["random", "random", "random", "sirfp", "sirfp"], "each ratio, and one difference"
    texts = [element.text for element in ElementTree.parse(table.with_suffix(".svg")).iter() if element.text]
    assert {"sirfp", "random", "50%"} <= {text.strip() for text in texts}
    drawn = table.with_suffix(".svg").read_bytes()
    table.with_suffix(".svg").unlink()
    printed("criteria_figure.py", str(table))
    assert table.with_suffix(".svg").read_bytes() == drawn

    # Another ratio and another row: what is there stays as it is.
    result = out / "results" / "prune-sirfp-0.json"
    before = json.loads(result.read_text())["ratios"]
    more = ("--ratios", "0.5", "0.6", "--no-scratch")
    printed("criteria.py", *SMALL, *places, *more, "--only", "sirfp", "sirfp, uniform")
    after = json.loads(result.read_text())["ratios"]
    assert after.keys() == {"0.5", "0.6", "0.75"}
    assert {ratio: after[ratio] for ratio in before} == before
    assert "## 60% of the MACs gone" in table.read_text()

    lines = printed("allocation_table.py", str(out)).splitlines()
    rows = [line.split(" | ")[1] for line in lines if line.startswith("| street_net ")]
    assert rows == ["50%", "60%"] * 2, "what was cut both ways, after and before training"


@pytest.mark.slow
def test_postprocessing_is_measured_both_ways() -> None:
    rows = [line for line in printed("postprocess.py", "--shrink", "8", "--rounds", "2").splitlines() if "MiB" in line]
    assert [row.split(" | ")[1] for row in rows] == ["64x128", "135x240", "128x256"]
    assert rows[0].endswith("| 0.1 + 0.6 MiB | 0.1 + 0.0 MiB |")


@pytest.mark.slow
def test_a_server_under_load_loses_nothing_and_refuses_what_is_malformed() -> None:
    text = printed("serve_load.py", "--requests", "160", "--malformed", "20")
    assert "| 160 | 0 | 0 |" in text
    assert "or with a traceback: 0." in text
    assert "320 of 320 right" in text
    assert "exit code 0 after SIGTERM, 0 tracebacks" in text


@pytest.mark.slow
def test_what_run_adds_is_measured() -> None:
    small = ("--pictures", "2", "--rounds", "1", "--network", "python:prunekit.models.street:street_net?width=8")
    text = printed("run_overhead.py", *small, "--wait-ms", "5")
    assert text.count("Overhead over the bare call:") == 4
    assert "## mask and overlay, stand-in for a GPU" in text
