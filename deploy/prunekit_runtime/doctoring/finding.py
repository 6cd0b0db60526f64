"""One thing that was looked at: what was found, whether it will do, and what to do where it will not."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """What was found of one subject."""

    subject: str
    """Such as "TensorRT"; abilities ask for it by this name."""
    state: State
    """ok; note: works, and should be looked at; missing: what needs it cannot run."""
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "10.3.0.26-1+cuda12.5" is (10, 3, 0, 26)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")[:8]) if found else ()


def in_range(version: str, lowest: str, below: str | None = None) -> bool:
    """Say whether `lowest` <= `version` < `below`."""
    got = numbers(version)
    return numbers(lowest) <= got and (below is None or got < numbers(below))
