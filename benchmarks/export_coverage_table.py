"""The Markdown table of benchmarks/export_coverage.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]
STEPS = ("fp32", "fp32 open", "fp16", "int8", "engine fp32", "engine fp16", "engine int8")


def write_table(rows: Rows, file: Path, how: str, total: int) -> None:
    """Write the counts, the reasons, and a row for each network; `total` is how many rows there are to run."""
    parts = ["# Export coverage: which networks become files and engines\n", _how(how)]
    if len(rows) < total:
        parts.append(
            f"**{len(rows)} of {total} rows have been run**, in drawn order; the others are not counted below.\n"
        )
    for variant in dict.fromkeys(variant for _, variant in rows):
        own = {name: row for (name, kind), row in rows.items() if kind == variant}
        # What was stopped at a limit has passed nothing; what its own library does not build is no network.
        built = {name: {"steps": {}, **row} for name, row in own.items() if row["status"] != "not built"}
        done = {name: row for name, row in built.items() if row["status"] == "done"}
        parts += [_counts(variant, built), _reasons(own), _whole(variant, done)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(part for part in parts if part))


def _how(text: str) -> str:
    return text.partition("\n\n")[2].partition("\n\n")[2].strip() + "\n"


def _counts(variant: str, built: Mapping[str, Row]) -> str:
    lines = [f"## {variant}: {len(built)} networks\n", "| library | networks | " + " | ".join(STEPS) + " |"]
    lines.append("| --- " * (len(STEPS) + 2) + "|")
    for library in ("all", *dict.fromkeys(name.partition("/")[0] for name in built)):
        chosen = [row for name, row in built.items() if library in ("all", name.partition("/")[0])]
        cells = [_share([row["steps"].get(step) for row in chosen]) for step in STEPS]
        lines.append(f"| {library} | {len(chosen)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _share(steps: Sequence[Row | None]) -> str:
    """Say how many passed of those that were tried; a step that needs a file which failed counts as tried."""
    if not any(steps):
        return "not run"
    passed = sum(bool(step and step["passed"]) for step in steps)
    return f"{passed} ({100 * passed / len(steps):.0f} %)"


def _reasons(own: Mapping[str, Row]) -> str:
    lines = ["What did not pass:\n"]
    for name, row in own.items():
        if row["status"] != "done":
            lines.append(f"* {name}: {row['status']}: {row.get('error', '')}")
            continue
        for step, found in row["steps"].items():
            if not found["passed"]:
                lines.append(f"* {name}, {step}: {found.get('error') or _figures(found)}")
    return "\n".join([*lines, ""]) if len(lines) > 1 else "All passed.\n"


def _figures(found: Row) -> str:
    error = f"relative error {found['error_relative']:.1e}, " if "error_relative" in found else ""
    return f"{error}{100 * found['labels']:.2f} % of the labels"


def _whole(variant: str, built: Mapping[str, Row]) -> str:
    head = (
        "| network | fp32 error | open sizes' error | fp16 error | fp16 labels | int8 labels | MACs in int8 | engines |"
    )
    lines = [f"### {variant}, every network\n", head, "| --- " * 8 + "|"]
    for name, row in built.items():
        steps = row["steps"]
        height, width = row["image_HW"]
        engines = [step.removeprefix("engine ") for step in STEPS[4:] if steps.get(step, {}).get("passed")]
        cells = [
            f"{name} ({height}x{width})",
            *(_number(steps, step, "error_relative", ".1e") for step in ("fp32", "fp32 open", "fp16")),
            *(_number(steps, step, "labels", ".2%") for step in ("fp16", "int8")),
            _number(steps, "int8", "share", ".0%"),
            ", ".join(engines) or "-",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _number(steps: Mapping[str, Row], step: str, key: str, form: str) -> str:
    value = steps.get(step, {}).get(key)
    return "-" if value is None else format(value, form).replace("%", " %")
