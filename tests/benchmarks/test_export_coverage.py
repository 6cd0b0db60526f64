"""The benchmark over many networks, on a few of them: every step is taken, and what fails is a row with its reason."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).parents[2]
STEPS = ["fp32", "fp16", "int8", "fp32 open"]


@pytest.fixture(scope="module")
def bench() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("export_coverage")


@pytest.mark.parametrize("variant", ["dense", "half"])
@pytest.mark.parametrize("name", ["pattern/Transposed", "torchvision/lraspp_mobilenet_v3_large"])
def test_a_few_networks_become_files_of_every_precision(bench: ModuleType, name: str, variant: str) -> None:
    row = bench.measure(bench.all_cases(name.partition("/")[0])[name], variant, engines=False)
    assert row["status"] == "done", row
    assert list(row["steps"]) == STEPS
    # Some of the patterns fix their size in Python, and the labels of untrained networks turn by int8.
    excused = {"int8", "fp32 open"} if name.startswith("pattern") else {"int8"}
    assert not {step: found for step, found in row["steps"].items() if not found["passed"] and step not in excused}
    assert row["steps"]["fp32"]["error_relative"] < 1e-4
    assert row["steps"]["fp16"]["share"] > 0.5


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_engines_are_built_of_the_files(bench: ModuleType) -> None:
    name = "torchvision/lraspp_mobilenet_v3_large"
    steps = bench.measure(bench.all_cases("torchvision")[name], "half")["steps"]
    assert [steps[f"engine {precision}"]["passed"] for precision in ("fp32", "fp16", "int8")] == [True] * 3


def test_what_cannot_be_exported_is_a_row_with_the_reason_and_a_table_of_it(bench: ModuleType, tmp_path: Path) -> None:
    class Antialias(nn.Module):
        def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            smaller = F.interpolate(
                images_B3HW.repeat(1, 2, 1, 1)[:, :4], scale_factor=0.5, mode="bilinear", antialias=True
            )
            return F.interpolate(smaller, images_B3HW.shape[-2:])

    class Unbuilt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            raise RuntimeError("no weights here")

    rows = {}
    for title, build in (("antialias", Antialias), ("unbuilt", Unbuilt)):
        case = bench.Case(f"pattern/{title}", build, (16, 24))
        rows[case.name, "dense"] = bench.measure(case, "dense", engines=False)
    assert rows["pattern/unbuilt", "dense"]["status"] == "not built"
    steps = rows["pattern/antialias", "dense"]["steps"]
    assert not steps["fp32"]["passed"]
    assert "fp16" not in steps
    bench.write_table(rows, tmp_path / "table.md", bench.__doc__, 9)
    text = (tmp_path / "table.md").read_text()
    assert "2 of 9 rows have been run" in text
    assert "pattern/antialias, fp32: ExportError" in text
    assert "pattern/unbuilt: not built: RuntimeError: no weights here" in text
    assert "| all | 1 | 0 (0 %) | 0 (0 %) |" in text
