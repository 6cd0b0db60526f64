"""The house in numbers: files a folder, imports between wings, lines over the limits, and how long imports take.

    python benchmarks/house.py [--against CHECKOUT]

Limits are those of docs/architecture.md; tests/test_architecture.py holds all but those of files. A function's lines are those of
its code, without signature and docstring. `--against` names another checkout of the repository: imports of both are
timed in turns, in CPU seconds of fresh processes, and told as a ratio.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grimp import ImportGraph

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = {"prunekit": ".", "prunekit_export": "export", "prunekit_cli": "cli", "prunekit_runtime": "deploy"}
MOST_FILES: Final = 12
DOORS: Final = {"__init__.py", "__main__.py"}
# One file an entry (a command, a criterion), what all rooms of the library share, and one script a page of results.
REGISTRIES: Final = {
    "cli/prunekit_cli/commands",
    "deploy/prunekit_runtime/commands",
    "deploy/prunekit_runtime",
    "prunekit/pruning/criteria",
    "prunekit",
    "benchmarks",
}
WINGS: Final = {"prunekit.pruning": 25, "prunekit.training": 25, "prunekit_export": 25}
"""Imports that may run between the wings of a room, each pair of wings counted once."""
FILE_LINES: Final = 300
FUNCTION_LINES: Final = 40
ROUNDS: Final = 15
TIMED: Final = {
    "import prunekit.pruning": ("-c", "import prunekit.pruning"),
    "prunekit --help": ("-c", "import prunekit_cli.main as it; it.main()", "--help"),
}


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, whose import times are the measure")
    args = parser.parse_args()
    counted = files_by_folder()
    full = ", ".join(f"{name} {count}" for name, count in counted.most_common(6))
    print(f"files a folder, {len(counted)} folders: {full}")
    print(f"  above {MOST_FILES}: {_listed(too_full(counted))}")
    graph = import_graph()
    for room, most in WINGS.items():
        print(f"imports between the wings of {room}: {len(between_wings(graph, room))} of at most {most}")
    files = {path: lines for path, lines in file_lengths() if lines > FILE_LINES}
    print(f"files above {FILE_LINES} lines: {_listed(files)}")
    functions = {name: lines for name, lines in function_lengths() if lines > FUNCTION_LINES}
    print(f"functions above {FUNCTION_LINES} lines: {_listed(functions)}")
    if args.against is not None:
        for name, ratio in import_ratios(args.against).items():
            print(f"{name}: {ratio:.2f} of the CPU time of {args.against.name}, the least of {ROUNDS} each")


def python_files(*, tests: bool = True) -> list[Path]:
    """Return our Python files, relative to the root."""
    tops = [Path(source, room) for room, source in ROOMS.items()] + [Path("benchmarks")]
    tops += [Path("tests")] if tests else []
    return sorted(path.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob("*.py"))


def files_by_folder() -> Counter[str]:
    """Return how many Python files each folder holds, its doors aside."""
    return Counter(path.parent.as_posix() for path in python_files() if path.name not in DOORS)


def too_full(counted: Counter[str]) -> dict[str, int]:
    """Return the folders with more files than there may be."""
    return {name: count for name, count in counted.items() if count > MOST_FILES and name not in REGISTRIES}


def import_graph() -> ImportGraph:
    """Return who imports whom."""
    import grimp

    return grimp.build_graph(*ROOMS, cache_dir=None)


def wings(graph: ImportGraph, room: str) -> set[str]:
    """Return the packages of a room."""
    return {child for child in graph.find_children(room) if graph.find_children(child)}


def between_wings(graph: ImportGraph, room: str) -> set[tuple[str, str]]:
    """Return the pairs of wings of which the first imports the second."""
    packages = wings(graph, room)
    return {
        (wing, other)
        for wing in packages
        for module in {wing, *graph.find_descendants(wing)}
        for used in graph.find_modules_directly_imported_by(module)
        for other in packages - {wing}
        if used == other or used.startswith(f"{other}.")
    }


def file_lengths() -> Iterator[tuple[str, int]]:
    """Yield each file and its lines."""
    for path in python_files():
        yield path.as_posix(), len((ROOT / path).read_text().splitlines())


def function_lengths() -> Iterator[tuple[str, int]]:
    """Yield each function and the lines of its code; tests are not counted."""
    for path in python_files(tests=False):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                documented = ast.get_docstring(node, clean=False) is not None
                code = node.body[1:] if documented else node.body
                yield f"{path}:{node.name}", 1 + (node.end_lineno or 0) - code[0].lineno if code else 0


def import_ratios(other: Path) -> dict[str, float]:
    """Return the CPU time of this checkout's imports over that of another's, the two run in turns."""
    found: dict[str, float] = {}
    for name, arguments in TIMED.items():
        for checkout in (ROOT, other):
            _cpu_s(checkout, arguments)  # its files are compiled once
        pairs = [(_cpu_s(ROOT, arguments), _cpu_s(other, arguments)) for _ in range(ROUNDS)]
        ours_s, others_s = (min(times) for times in zip(*pairs, strict=True))  # neighbours only ever add to it
        found[name] = ours_s / others_s
    return found


def _cpu_s(checkout: Path, arguments: tuple[str, ...]) -> float:
    path = os.pathsep.join(str(checkout.resolve() / source) for source in ROOMS.values())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _listed(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items(), key=lambda one: -one[1])) or "none"


if __name__ == "__main__":
    main()
