"""Folders stay small, wings keep their doors, and few imports run between them. import-linter holds the directions."""

import tomllib
from collections import Counter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"prunekit": "prunekit", "prunekit_export": "export", "prunekit_cli": "cli", "prunekit_runtime": "deploy"}
LIMIT = 12
# One file an entry (a command, a criterion), and what all rooms of the library share.
REGISTRIES = {"cli/prunekit_cli/commands", "prunekit/pruning/criteria", "prunekit"}
WINGS = {"prunekit.pruning": 25, "prunekit.training": 25, "prunekit_export": 22}
"""Imports that may run between the wings of a room, each pair of wings counted once."""


def test_a_folder_holds_at_most_a_dozen_files() -> None:
    tops = ["prunekit", "cli/prunekit_cli", "export/prunekit_export", "deploy/prunekit_runtime"]
    files = [path for top in tops for path in (ROOT / top).rglob("*.py") if path.name != "__init__.py"]
    counted = Counter(path.parent.relative_to(ROOT).as_posix() for path in files)
    assert len(counted) > 20
    assert {name: count for name, count in counted.items() if count > LIMIT and name not in REGISTRIES} == {}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*SOURCES, cache_dir=None)


def packages(graph: grimp.ImportGraph, room: str) -> set[str]:
    return {child for child in graph.find_children(room) if graph.find_children(child)}


@pytest.mark.parametrize("room", WINGS)
def test_every_wing_is_entered_by_its_own_door(graph: grimp.ImportGraph, room: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = {name for contract in contracts if contract["type"] == "protected" for name in contract["protected_modules"]}
    assert {f"{wing}.*" for wing in packages(graph, room)} <= held


@pytest.mark.parametrize(("room", "most"), WINGS.items())
def test_few_imports_run_between_wings(graph: grimp.ImportGraph, room: str, most: int) -> None:
    wings = packages(graph, room)
    assert len(wings) > 1
    found = {
        (wing, other)
        for wing in wings
        for module in {wing, *graph.find_descendants(wing)}
        for used in graph.find_modules_directly_imported_by(module)
        for other in wings - {wing}
        if used == other or used.startswith(f"{other}.")
    }
    assert len(found) <= most, sorted(found)
