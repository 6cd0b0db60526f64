"""What a card says of itself, against an NVML made of Python; no card answered in these tests."""

from typing import Any

import pytest

from prunekit_runtime.running.nvml import GpuState, Nvml, open_nvml

BUS = "0000:01:00.0"


class Library:
    """Answers as libnvidia-ml does: a status, and values behind pointers."""

    def __init__(self, values: dict[Any, int], init: int = 0) -> None:
        self.values, self.init, self.open = values, init, 0

    def nvmlInit_v2(self) -> int:
        self.open += self.init == 0
        return self.init

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus: Any, out: Any) -> int:
        out._obj.value = 9
        return 0 if bus.value == BUS.encode() else 6  # NVML_ERROR_NOT_FOUND

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or self.values.get(name) == "missing":
            raise AttributeError(name)

        def query(card: Any, *arguments: Any) -> int:
            assert card.value == 9
            key = (name, *(argument.value for argument in arguments[:-1]))
            if key not in self.values:
                return 3  # NVML_ERROR_NOT_SUPPORTED
            arguments[-1]._obj.value = self.values[key]
            return 0

        return query


FULL = {
    ("nvmlDeviceGetClockInfo", 0): 1410,
    ("nvmlDeviceGetMaxClockInfo", 0): 1980,
    ("nvmlDeviceGetClockInfo", 2): 2619,
    ("nvmlDeviceGetTemperature", 0): 71,
    ("nvmlDeviceGetPowerUsage",): 305_500,
    ("nvmlDeviceGetEnforcedPowerLimit",): 350_000,
    ("nvmlDeviceGetCurrentClocksThrottleReasons",): 0x1 | 0x4 | 0x20,
    ("nvmlDeviceGetTotalEnergyConsumption",): 5_000_000_000_123,
}


def opened(values: dict[Any, Any]) -> Nvml:
    nvml = open_nvml(BUS, Library(values))
    assert nvml is not None
    return nvml


def test_clocks_power_and_what_slows_a_card_are_read() -> None:
    nvml = opened(FULL)
    assert nvml.state() == GpuState(
        graphics_mhz=1410,
        graphics_max_mhz=1980,
        memory_mhz=2619,
        temperature_celsius=71,
        power_watts=pytest.approx(305.5),
        power_limit_watts=350.0,
        slowed_by=("the power limit", "its temperature (driver)"),
    )
    assert nvml.joules() == pytest.approx(5_000_000_000.123)  # more than 32 bits of millijoules


def test_an_idle_card_and_one_whose_clocks_were_set_are_not_slowed() -> None:
    assert opened({("nvmlDeviceGetCurrentClocksThrottleReasons",): 0x1 | 0x2 | 0x10}).state().slowed_by == ()


def test_what_a_card_or_an_older_driver_does_not_tell_is_none() -> None:
    assert opened({}).state() == GpuState()
    assert opened({**FULL, "nvmlDeviceGetTotalEnergyConsumption": "missing"}).joules() is None


def test_without_nvml_or_the_card_there_is_none_and_nothing_stays_open() -> None:
    refusing, other = Library(FULL, init=9), Library(FULL)
    assert open_nvml(BUS, refusing) is None
    assert open_nvml("0000:02:00.0", other) is None
    assert open_nvml(None, other) is None
    assert (refusing.open, other.open) == (0, 0)


def test_closing_lets_go() -> None:
    library = Library(FULL)
    nvml = open_nvml(BUS, library)
    assert nvml is not None
    nvml.close()
    assert library.open == 0
