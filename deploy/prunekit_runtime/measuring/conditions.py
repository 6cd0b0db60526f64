"""In what state a machine is, read before and after a measurement, as both may explain it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

from prunekit_runtime.measuring.cpu_work import CpuWork, read_cpu_work
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.nvml import GpuState, Nvml

_KEPT = ("power_mode", "cpu_governor", "clocks_mhz", "temperatures_celsius")


@dataclasses.dataclass(frozen=True)
class Conditions:
    """A reading."""

    device: "dict[str, Any]"
    """As `describe_device` returns it."""
    card: Optional[GpuState] = None
    work: Optional[CpuWork] = None
    """Of the CPUs; None where it is not known."""

    @property
    def temperatures_celsius(self) -> Mapping[str, float]:
        """Of the board's zones, and of the card."""
        zones: dict[str, float] = dict(self.device["temperatures_celsius"])
        if self.card is not None and self.card.temperature_celsius is not None:
            zones["card"] = self.card.temperature_celsius
        return zones

    @property
    def slowed_by(self) -> "tuple[str, ...]":
        """What takes clocks away, where the card says so."""
        return () if self.card is None else self.card.slowed_by

    def others_share(self, before: "Conditions") -> Optional[float]:
        """Return the share of all CPU time since `before` that other processes took; None where it is not known."""
        return None if self.work is None or before.work is None else self.work.others_share(before.work)

    def to_json(self) -> "dict[str, Any]":
        """Return it as a JSON object."""
        card = None if self.card is None else self.card.to_json()
        return {**{name: self.device[name] for name in _KEPT}, "card": card}


def read_conditions(nvml: Optional[Nvml]) -> Conditions:
    """Read the machine, and the card where there is one."""
    return Conditions(describe_device(), None if nvml is None else nvml.state(), read_cpu_work())
