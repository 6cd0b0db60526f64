"""How fast a stream was, and which stage held it up."""

import dataclasses
from typing import Any

from prunekit_runtime.predicting.job import Tally
from prunekit_runtime.predicting.stopwatch import Stopwatch


@dataclasses.dataclass(frozen=True)
class Stage:
    """Threads that do the same to one picture after the other."""

    name: str
    parts: tuple[str, ...]
    """Of `stopwatch.STAGES`."""
    threads: int


@dataclasses.dataclass(frozen=True)
class StreamReport:
    """What became of one source: the pictures, a video, or a camera."""

    source: str
    written: int
    failed: tuple[dict[str, str], ...]
    """Name and reason of each."""
    total_s: float
    """From the first picture to the last."""
    seconds: dict[str, float]
    """By part, added up over threads."""
    stage_rates: dict[str, float]
    """Pictures a second that each stage's threads were fast enough for, beside all others."""
    dropped: int = 0
    """Frames of a camera that came while the model was busy."""

    @property
    def pictures_per_s(self) -> float:
        """Pictures that were written, by the second."""
        return self.written / self.total_s if self.total_s > 0 else 0.0

    @property
    def slowest(self) -> str:
        """The stage that limits the whole; empty where nothing was done."""
        return min(self.stage_rates, key=lambda name: self.stage_rates[name], default="")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**dataclasses.asdict(self), "pictures_per_s": self.pictures_per_s, "slowest": self.slowest}

    def to_text(self) -> str:
        """Return two lines for people."""
        dropped = f", {self.dropped} frames dropped" if self.dropped else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        head = f"{self.source}: {self.written} written{failed}{dropped}, {self.pictures_per_s:.1f}/s"
        if not self.stage_rates:
            return head
        rates = ", ".join(f"{name} {rate:.1f}/s" for name, rate in self.stage_rates.items())
        return f"{head}\n  each stage by itself: {rates}; the slowest is {self.slowest}"


def picture_stages(readers: int, writers: int) -> tuple[Stage, ...]:
    """Return the stages of pictures, which are decoded and prepared by the same threads."""
    return (
        Stage("reading", ("decoding", "preparing"), readers),
        Stage("network", ("network",), 1),
        Stage("writing", ("labels", "writing"), writers),
    )


def film_stages(readers: int, writers: int) -> tuple[Stage, ...]:
    """Return the stages of a video or a camera, whose frames one thread decodes, or waits for."""
    return (
        Stage("decoding", ("decoding",), 1),
        Stage("preparing", ("preparing",), readers),
        Stage("network", ("network",), 1),
        Stage("writing", ("labels", "writing"), writers),
    )


def stream_report(
    source: str, stages: tuple[Stage, ...], tally: Tally, stopwatch: Stopwatch, *, dropped: int = 0
) -> StreamReport:
    """Return the report of a stream that is over."""
    spent_s = {stage: sum(stopwatch.seconds[part] for part in stage.parts) for stage in stages}
    rates = {
        stage.name: stage.threads * tally.written / seconds
        for stage, seconds in spent_s.items()
        if seconds > 0 and tally.written
    }
    return StreamReport(
        source=source,
        written=tally.written,
        failed=tuple({"picture": name, "reason": reason} for name, reason in tally.failed),
        total_s=stopwatch.total_s(),
        seconds=dict(stopwatch.seconds),
        stage_rates=rates,
        dropped=dropped,
    )
