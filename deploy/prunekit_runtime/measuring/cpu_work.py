"""How busy other processes keep the CPUs: they change what a measurement finds long before its own times scatter."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal; not idle, iowait, or guests, which are in user
_SHORTEST_S = 0.2  # the counters go in steps of 10 ms


@dataclass(frozen=True)
class CpuWork:
    """A reading of counters [s]."""

    wall_s: float
    busy_s: float
    """Of all cores together, since the machine was started."""
    own_s: float
    """Of this process and the children that it has waited for."""
    cores: int

    def others_share(self, before: "CpuWork") -> Optional[float]:
        """Return the share of all CPU time since `before` that other processes took; None where it was too short."""
        elapsed_s = self.wall_s - before.wall_s
        if elapsed_s < _SHORTEST_S:
            return None
        others_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s)
        return max(0.0, others_s / (elapsed_s * self.cores))


def read_cpu_work(stat: Path = _STAT) -> Optional[CpuWork]:
    """Read the counters; None where Linux does not tell them."""
    try:
        with stat.open() as file:
            lines = file.read(1 << 20).splitlines()
        ticks = [int(word) for word in lines[0].split()[1:]]
        cores = sum(line[:3] == "cpu" and line[3:4].isdigit() for line in lines)
        busy_s = sum(ticks[column] for column in _BUSY if column < len(ticks)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    own = os.times()
    own_s = own.user + own.system + own.children_user + own.children_system
    return CpuWork(time.monotonic(), busy_s, own_s, cores) if cores else None
