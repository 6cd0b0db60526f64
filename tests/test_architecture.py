"""Folders stay small, wings keep their doors, and few imports run between them. import-linter holds the directions."""

import importlib
import tomllib
from pathlib import Path
from types import ModuleType

import grimp
import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("prunekit.pruning", "prunekit.training", "prunekit_export")


@pytest.fixture(scope="module")
def house() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("house")


@pytest.fixture(scope="module")
def graph(house: ModuleType) -> grimp.ImportGraph:
    return house.import_graph()


def test_a_folder_holds_at_most_a_dozen_files(house: ModuleType) -> None:
    counted = house.files_by_folder()
    assert len(counted) > 20
    assert house.too_full(counted) == {}


def test_functions_stay_short(house: ModuleType) -> None:
    lengths = dict(house.function_lengths())
    assert len(lengths) > 1000
    assert {name: lines for name, lines in lengths.items() if lines > house.FUNCTION_LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_wing_is_entered_by_its_own_door(house: ModuleType, graph: grimp.ImportGraph, room: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = {name for contract in contracts if contract["type"] == "protected" for name in contract["protected_modules"]}
    assert {f"{wing}.*" for wing in house.wings(graph, room)} <= held


@pytest.mark.parametrize("room", ROOMS)
def test_few_imports_run_between_wings(house: ModuleType, graph: grimp.ImportGraph, room: str) -> None:
    assert len(house.wings(graph, room)) > 1
    found = house.between_wings(graph, room)
    assert len(found) <= house.WINGS[room], sorted(found)
