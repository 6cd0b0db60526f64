"""Power of a Jetson's board from its INA3221 sensors, which the kernel shows under /sys/class/hwmon.

A total rail measures all that its parts measure; it is never added to them. Rails by Jetson: `VDD_IN` (Orin, Xavier
NX), `VIN_SYS_5V0` is a part; `POM_5V_IN` (Nano, TX2). Where no total rail is known, nothing is said.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Optional

TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")
EVERY_S = 0.05
MIN_SAMPLES = 20
NO_RAIL = f"no sensor of a total rail ({' or '.join(TOTAL_RAILS)}) is shown under /sys/class/hwmon"


@dataclasses.dataclass(frozen=True)
class Rail:
    """A sensor's files for one rail."""

    name: str
    voltage_mv: Path
    current_ma: Path

    def watts(self) -> Optional[float]:
        """Return the power now; None where it cannot be read."""
        try:
            return int(self.voltage_mv.read_text()) * int(self.current_ma.read_text()) * 1e-6
        except (OSError, ValueError):
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
    """What was seen of a rail over a time."""

    rail: Optional[Rail]
    samples_w: "list[float]" = dataclasses.field(default_factory=lambda: list[float]())
    seconds: float = 0.0

    def joules_each(self, frames: int) -> Optional[float]:
        """Return the energy of one of so many frames; None where too little was seen."""
        if self.rail is None or len(self.samples_w) < MIN_SAMPLES or frames < 1:
            return None
        return sum(self.samples_w) / len(self.samples_w) * self.seconds / frames

    def to_json(self) -> "dict[str, Any]":
        """Return what was seen, and why it is not enough where it is not."""
        count = len(self.samples_w)
        reason = NO_RAIL if self.rail is None else None
        if self.rail is not None and count < MIN_SAMPLES:
            reason = f"{count} samples are too few, {MIN_SAMPLES} are needed: measure more runs"
        return {
            "source": None if self.rail is None else f"hwmon {self.rail.name}",
            "samples": count,
            "mean_watts": sum(self.samples_w) / count if count else None,
            "seconds": self.seconds,
            "reason": reason,
        }


@contextlib.contextmanager
def watching(rail: Optional[Rail], every_s: float = EVERY_S) -> Generator[Energy, None, None]:
    """Sample a rail beside the block."""
    energy, stop, start_s = Energy(rail), threading.Event(), time.monotonic()

    def sample() -> None:
        while rail is not None and not stop.is_set():
            watts = rail.watts()
            if watts is not None:
                energy.samples_w.append(watts)
            stop.wait(every_s)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield energy
    finally:
        energy.seconds = time.monotonic() - start_s
        stop.set()
        thread.join()
