"""Clocks, temperature, power and throttling of an NVIDIA card, asked of the driver's NVML by ctypes.

Names and signatures: NVML API reference, "Device Queries". A Jetson's NVML tells little or is not there; what is not
told is None. Nothing is changed.
"""

import ctypes
import dataclasses
from typing import Any, Optional

LIBRARY = "libnvidia-ml.so.1"
_GRAPHICS, _MEMORY = 0, 2  # nvmlClockType_t
_GPU_SENSOR = 0  # nvmlTemperatureSensors_t
# nvmlClocksThrottleReasons, those that take clocks away; idleness and clocks that were set are none of them.
_SLOWING = {
    0x04: "the power limit",
    0x08: "a hardware slowdown",
    0x20: "its temperature (driver)",
    0x40: "its temperature (hardware)",
    0x80: "a power brake",
}


@dataclasses.dataclass(frozen=True)
class GpuState:
    """What the card says of itself now."""

    graphics_mhz: Optional[int] = None
    graphics_max_mhz: Optional[int] = None
    memory_mhz: Optional[int] = None
    temperature_celsius: Optional[int] = None
    power_watts: Optional[float] = None
    power_limit_watts: Optional[float] = None
    slowed_by: "tuple[str, ...]" = ()

    def to_json(self) -> "dict[str, Any]":
        """Return it as a JSON object."""
        return {**dataclasses.asdict(self), "slowed_by": list(self.slowed_by)}


class Nvml:
    """NVML, and one card of it; closed by `close`."""

    name = "NVML"
    scope = "the graphics card"

    def __init__(self, library: Any, card: ctypes.c_void_p) -> None:
        self._library, self._card = library, card

    def state(self) -> GpuState:
        """Return clocks, temperature, power and what slows the card."""
        limit_mw = self._number("nvmlDeviceGetEnforcedPowerLimit")
        reasons = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", of=ctypes.c_ulonglong) or 0
        return GpuState(
            graphics_mhz=self._number("nvmlDeviceGetClockInfo", _GRAPHICS),
            graphics_max_mhz=self._number("nvmlDeviceGetMaxClockInfo", _GRAPHICS),
            memory_mhz=self._number("nvmlDeviceGetClockInfo", _MEMORY),
            temperature_celsius=self._number("nvmlDeviceGetTemperature", _GPU_SENSOR),
            power_watts=self.watts(),
            power_limit_watts=None if limit_mw is None else limit_mw * 1e-3,
            slowed_by=tuple(words for bit, words in _SLOWING.items() if reasons & bit),
        )

    def watts(self) -> Optional[float]:
        """Return the power of the card; None where it is not told."""
        power_mw = self._number("nvmlDeviceGetPowerUsage")
        return None if power_mw is None else power_mw * 1e-3

    def joules(self) -> Optional[float]:
        """Return the energy since the driver was loaded; None where it is not counted."""
        energy_mj = self._number("nvmlDeviceGetTotalEnergyConsumption", of=ctypes.c_ulonglong)
        return None if energy_mj is None else energy_mj * 1e-3

    def close(self) -> None:
        """Let go of NVML."""
        self._library.nvmlShutdown()

    def _number(self, name: str, *arguments: int, of: Any = ctypes.c_uint) -> Optional[int]:
        value = of()
        try:
            status = getattr(self._library, name)(self._card, *map(ctypes.c_int, arguments), ctypes.byref(value))
        except AttributeError:  # an older driver
            return None
        return int(value.value) if status == 0 else None


def open_nvml(pci_bus_id: Optional[str], library: Any = None) -> Optional[Nvml]:
    """Open NVML for the card that CUDA uses; None where the driver has none, or tells nothing of that card.

    Args:
        pci_bus_id: as the CUDA driver tells it: NVML numbers cards in another order.
        library: the loaded library; by default libnvidia-ml.so.1 is loaded.
    """
    if pci_bus_id is None:
        return None
    try:
        nvml, card = library or ctypes.CDLL(LIBRARY), ctypes.c_void_p()
        if nvml.nvmlInit_v2() != 0:
            return None
        if nvml.nvmlDeviceGetHandleByPciBusId_v2(ctypes.c_char_p(pci_bus_id.encode()), ctypes.byref(card)) == 0:
            return Nvml(nvml, card)
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        pass
    return None
