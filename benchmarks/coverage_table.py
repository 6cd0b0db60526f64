"""The Markdown table of benchmarks/coverage.py."""

from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]
LIMIT_S, LIMIT_GIB = 20, 4
_HEAD = (
    "| network | prunekit | max relative error | MACs removed | channels frozen | most common reasons | analysis [CPU s] "
    "| total [CPU s] | peak [GiB] | Torch-Pruning | MACs removed | total [CPU s] |\n" + "| --- " * 12 + "|"
)


def write_table(rows: Rows, file: Path) -> None:
    """Write the summary, the table of every library, and what a library itself refuses to build."""
    names = list(dict.fromkeys(name for name, _ in rows))
    ours = {name: rows[name, "prunekit"] for name in names if (name, "prunekit") in rows}
    theirs = {name: rows[name, "torch_pruning"] for name in names if (name, "torch_pruning") in rows}
    built = [name for name, row in ours.items() if row["status"] != "not built"]
    parts = ["# Coverage: which networks are pruned, and how exactly\n", _how(), _summary(built, ours, theirs)]
    for library, group in groupby(built, key=lambda name: name.partition("/")[0]):
        lines = [_line(name, ours[name], theirs.get(name, {})) for name in group]
        parts.append(f"## {library}\n\n{_HEAD}\n" + "\n".join(lines) + "\n")
    parts += [_problems(built, ours, "prunekit"), _problems(built, theirs, "Torch-Pruning"), _not_built(ours)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(part for part in parts if part))


def _how() -> str:
    return (
        "`python benchmarks/coverage.py`; its docstring says what is done. Images 1x3x256x512 unless the network's name is\n"
        "followed by another size; one CPU thread, random weights, float32. Total: analysis, plan, surgery and the check\n"
        "against the masked network; building and imports are not counted. Peak: of the whole process, imports and both\n"
        "networks included. MACs: each tool's own count. Channels frozen: of the output channels of all layers.\n"
        "Torch-Pruning is counted ok if its pruned network runs and returns the same shapes; its values are not checked. It\n"
        "has settings by which a user describes a transformer to it (num_heads, unwrapped_parameters); none is given here.\n"
    )


def _summary(built: list[str], ours: Mapping[str, Row], theirs: Mapping[str, Row]) -> str:
    lines = ["## Summary\n", "| | networks | exact | inexact | refused, with a reason | failed | nothing to cut |"]
    lines.append("| --- " * 7 + "|")
    libraries = ["all", *dict.fromkeys(name.partition("/")[0] for name in built)]
    for library in libraries:
        chosen = [n for n in built if library in ("all", n.partition("/")[0])]
        count = Counter(ours[name]["status"] for name in chosen)
        whole = sum(ours[name].get("frozen", 0) == 1 for name in chosen)
        numbers = [len(chosen), *(count[key] for key in ("exact", "inexact", "refused", "failed")), whole]
        lines.append(f"| prunekit, {library} | " + " | ".join(map(str, numbers)) + " |")
    lines += ["", "| | networks | ok | shape wrong | failed |", "| --- " * 5 + "|"]
    for library in libraries:
        chosen = [n for n in built if library in ("all", n.partition("/")[0]) and n in theirs]
        count = Counter(theirs[name]["status"] for name in chosen)
        numbers = [len(chosen), *(count[key] for key in ("ok", "shape wrong", "failed"))]
        lines.append(f"| Torch-Pruning, {library} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join([*lines, "", _worst(built, ours), ""])


def _worst(built: list[str], ours: Mapping[str, Row]) -> str:
    if not built:
        return "No rows yet."
    slow = [name for name in built if ours[name].get("total_cpu_s", 0) > LIMIT_S]
    large = [name for name in built if ours[name].get("peak_gib", 0) > LIMIT_GIB]
    error = max(ours[name].get("error_relative", 0) for name in built)
    return (
        f"prunekit: largest error {error:.1e}; over {LIMIT_S} CPU s: {len(slow)} ({', '.join(slow) or 'none'}); "
        f"above {LIMIT_GIB} GiB: {len(large)} ({', '.join(large) or 'none'})."
    )


def _line(name: str, ours: Row, theirs: Row) -> str:
    size = tuple(ours.get("image_HW", (256, 512)))
    title = name.partition("/")[2] + ("" if size == (256, 512) else f" ({size[0]}x{size[1]})")
    reasons = [f"{reason} ({count})" for reason, count in list(ours.get("reasons", {}).items())[:2]]
    cells = [
        *(title, ours["status"], _number(ours.get("error_relative"), ".1e")),
        *(_number(ours.get(key), ".0%") for key in ("macs_removed", "frozen")),
        "; ".join(reasons).replace("|", "/"),
        *(_number(ours.get(key), ".1f") for key in ("analysis_cpu_s", "total_cpu_s", "peak_gib")),
        _theirs(theirs),
        *(_number(theirs.get("macs_removed"), ".0%"), _number(theirs.get("total_cpu_s"), ".1f")),
    ]
    return "| " + " | ".join(cells) + " |"


def _theirs(row: Row) -> str:
    if row.get("status") != "failed":
        return str(row.get("status", ""))
    error = str(row["error"])
    return "over a limit" if error.startswith("over") else error.partition(":")[0]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _problems(built: list[str], rows: Mapping[str, Row], tool: str) -> str:
    lines = [f"- {name}: {rows[name]['error']}" for name in built if name in rows and rows[name].get("error")]
    return f"## What stopped {tool}\n\n" + "\n".join(lines) + "\n" if lines else ""


def _not_built(ours: Mapping[str, Row]) -> str:
    lines = [f"- {name}: {row['error']}" for name, row in ours.items() if row["status"] == "not built"]
    title = "## Not in the table: the library itself does not build or run these\n\n"
    return title + "\n".join(lines) + "\n" if lines else ""
