"""Names of tensors in an error: in groups, with what is near to them."""

from collections.abc import Mapping, Sequence
from typing import Final

from prunekit_runtime.near import nearest

_GROUPS: Final = 8
_NAMED: Final = 2  # of a group
_COMPARED: Final = 2000
_LONGEST: Final = 160


def grouped(names: Sequence[str]) -> dict[str, str]:
    """Return a line for each group of names, by what they begin with; at most eight, and one that counts the rest."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_front(name), []).append(name)
    lines = {front: _line(front, members) for front, members in list(groups.items())[:_GROUPS]}
    if len(groups) > _GROUPS:
        rest = list(groups.values())[_GROUPS:]
        lines[""] = f"  and {sum(map(len, rest))} more in {len(rest)} groups"
    return lines


def near_names(lines: Mapping[str, str], names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the lines, each with the one of `known` that is nearest to the first name of its group."""
    told: list[str] = []
    for front, line in lines.items():
        first = next((name for name in names if front and _front(name) == front), None)
        near = nearest(first, known[:_COMPARED], alike=0.7) if first is not None else None
        told.append(f"{line}; near: {near[:_LONGEST]}" if near else line)
    return told


def pattern_for(names: Sequence[str]) -> str:
    """Return the shortest common pattern: the whole dotted front that all names share, "*" without one."""
    shared = names[0].split(".")[:-1]
    for name in names[1:]:
        parts = name.split(".")[:-1]
        length = next((i for i, (a, b) in enumerate(zip(shared, parts, strict=False)) if a != b), None)
        shared = shared[: min(len(shared), len(parts)) if length is None else length]
    return ".".join([*shared, "*"])[:_LONGEST]


def _front(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _line(front: str, members: Sequence[str]) -> str:
    shown = ", ".join(name[:_LONGEST] for name in members[:_NAMED])
    more = f", and {len(members) - _NAMED} more" if len(members) > _NAMED else ""
    return f"  {shown}{more}" if len(members) <= _NAMED else f"  {front[:_LONGEST]}: {shown}{more}"
