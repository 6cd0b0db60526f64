"""A step: jobs that are done one by one, each a row of one table."""

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


class GpuRefusedError(Exception):
    """A row that cannot be measured here: one sentence for what, one for what to do."""


class TimeUpError(BaseException):
    """The time of this start is over; no `except Exception` of a library may take it."""


@dataclass(frozen=True)
class Bench:
    """What all steps are told."""

    out: Path
    dry_run: bool
    root: str
    """Folder of CamVid, which the criteria need."""
    ends_s: float
    """`time.monotonic()` at which this start has to be over."""

    @property
    def device(self) -> str:
        """Where networks run."""
        return "cpu" if self.dry_run else "cuda"

    def left_s(self) -> float:
        """Return the time that is left."""
        return self.ends_s - time.monotonic()


@dataclass(frozen=True)
class Job:
    """One row."""

    key: str
    run: Callable[[], dict[str, Any]]
    needs: tuple[str, ...] = ()
    """Modules beyond those of the step."""


@dataclass(frozen=True)
class Step:
    """One table."""

    name: str
    title: str
    needs: tuple[str, ...]
    """Modules without which nothing of it can be measured, torch and numpy aside."""
    dry_needs: tuple[str, ...]
    """The same for a dry run."""
    jobs: Callable[[Bench], Sequence[Job]]
    table: Callable[[Mapping[str, Row]], list[str]]
    """Lines of Markdown from the rows that were measured."""

    def missing(self, bench: Bench, job: Job) -> list[str]:
        """Return the modules that a row lacks."""
        needed = (*(self.dry_needs if bench.dry_run else self.needs), *job.needs)
        return [name for name in dict.fromkeys(needed) if importlib.util.find_spec(name) is None]


DISTRIBUTIONS = {
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "tomli_w": "tomli-w",
    "onnx_graphsurgeon": "onnx-graphsurgeon",
    "PIL": "pillow",
}
"""Distributions whose module has another name; in the others it is the same."""


def advice(modules: Sequence[str]) -> str:
    """Return what to do about modules that are missing."""
    names = " ".join(DISTRIBUTIONS.get(name, name) for name in modules)
    return f"Missing here: {', '.join(modules)}. Install: pip install {names}"
