"""Energy of a board or a card over a time.

The kernel shows a Jetson's INA3221 sensors under /sys/class/hwmon. A total rail measures all that its parts measure;
it is never added to them. Total rails: `VDD_IN` (Orin Nano and NX, Xavier NX); `POM_5V_IN` (Nano, TX2). Where there is
none, an NVIDIA card tells its own power, which leaves out the machine round it. Where none is known, nothing is said.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Optional, Protocol

TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")
EVERY_S = 0.05
MIN_SAMPLES = 20
NO_SOURCE = (
    f"no sensor of a total rail ({' or '.join(TOTAL_RAILS)}) is shown under /sys/class/hwmon, and no graphics card "
    "tells its power"
)


class Source(Protocol):
    """Something that tells its power."""

    @property
    def name(self) -> str:
        """Who tells it."""
        ...

    @property
    def scope(self) -> str:
        """What the power is of."""
        ...

    def watts(self) -> Optional[float]:
        """Return the power now; None where it cannot be read."""
        ...

    def joules(self) -> Optional[float]:
        """Return a counter of energy; None where there is none."""
        ...


@dataclasses.dataclass(frozen=True)
class Rail:
    """A sensor's files for one rail."""

    rail: str
    voltage_mv: Path
    current_ma: Path
    scope = "the whole board"

    @property
    def name(self) -> str:
        """Who tells it."""
        return f"hwmon {self.rail}"

    def watts(self) -> Optional[float]:
        """Return the power now; None where it cannot be read."""
        try:
            return int(self.voltage_mv.read_text()) * int(self.current_ma.read_text()) * 1e-6
        except (OSError, ValueError):
            return None

    def joules(self) -> Optional[float]:
        """Return None: such a sensor does not count."""
        return None


def total_rail(root: Path = Path("/")) -> Optional[Rail]:
    """Return the rail that feeds the whole board; None where there is none that is known."""
    for label in sorted((root / "sys/class/hwmon").glob("hwmon*/in*_label")):
        with contextlib.suppress(OSError):
            name = label.read_text(errors="replace").strip()
            place = label.name.removeprefix("in").removesuffix("_label")
            rail = Rail(name, label.with_name(f"in{place}_input"), label.with_name(f"curr{place}_input"))
            if name in TOTAL_RAILS and rail.watts() is not None:
                return rail
    return None


@dataclasses.dataclass
class Energy:
    """What was seen of a source over a time."""

    source: Optional[Source]
    samples_w: "list[float]" = dataclasses.field(default_factory=lambda: list[float]())
    seconds: float = 0.0
    counted_j: Optional[float] = None
    """By the source's own counter."""

    def joules_each(self, frames: int) -> Optional[float]:
        """Return the energy of one of so many frames; None where too little was seen."""
        if self.source is None or len(self.samples_w) < MIN_SAMPLES or frames < 1:
            return None
        return (self.counted_j or self.mean_watts * self.seconds) / frames

    @property
    def mean_watts(self) -> float:
        """The mean of the samples."""
        return sum(self.samples_w) / len(self.samples_w)

    def to_json(self) -> "dict[str, Any]":
        """Return what was seen, and why it is not enough where it is not."""
        count = len(self.samples_w)
        reason = NO_SOURCE if self.source is None else None
        if self.source is not None and count < MIN_SAMPLES:
            reason = f"{count} samples are too few, {MIN_SAMPLES} are needed: measure more runs"
        return {
            "source": None if self.source is None else self.source.name,
            "of": None if self.source is None else self.source.scope,
            "samples": count,
            "mean_watts": self.mean_watts if count else None,
            "counted_joules": self.counted_j,
            "seconds": self.seconds,
            "reason": reason,
        }


@contextlib.contextmanager
def watching(source: Optional[Source], every_s: float = EVERY_S) -> Generator[Energy, None, None]:
    """Sample a source beside the block."""
    energy, stop, start_s = Energy(source), threading.Event(), time.monotonic()
    before_j = None if source is None else source.joules()

    def sample() -> None:
        while source is not None and not stop.is_set():
            watts = source.watts()
            if watts is not None:
                energy.samples_w.append(watts)
            stop.wait(every_s)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield energy
    finally:
        energy.seconds = time.monotonic() - start_s
        after_j = None if source is None else source.joules()
        stop.set()
        thread.join()
        energy.counted_j = None if before_j is None or after_j is None else after_j - before_j
