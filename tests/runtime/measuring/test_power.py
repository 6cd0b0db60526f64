"""Energy by a planted tree of sensors: the total rail alone, and nothing where there is none."""

from pathlib import Path

import pytest

from prunekit_runtime.measuring.power import MIN_SAMPLES, NO_SOURCE, Energy, total_rail, watching
from prunekit_runtime.running.device import describe_device


def plant(root: Path, number: int, rails: dict[int, tuple[str, int, int]]) -> None:
    """Write a sensor of (label, mV, mA) by channel, as the kernel's ina3221 driver shows it."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina3221\n")
    for channel, (label, voltage_mv, current_ma) in rails.items():
        (folder / f"in{channel}_label").write_text(f"{label}\n")
        (folder / f"in{channel}_input").write_text(f"{voltage_mv}\n")
        (folder / f"curr{channel}_input").write_text(f"{current_ma}\n")


@pytest.mark.parametrize("total", ["VDD_IN", "POM_5V_IN"])
def test_the_total_rail_is_taken_and_its_parts_are_not_added(tmp_path, total):
    plant(tmp_path, 0, {1: ("VDD_CPU_GPU_CV", 5000, 1000), 2: ("VDD_SOC", 5000, 500)})
    plant(tmp_path, 1, {1: (total, 5000, 2400), 3: ("VDD_SOC", 5000, 700)})
    rail = total_rail(tmp_path)
    assert rail is not None
    assert (rail.name, rail.watts(), rail.joules()) == (f"hwmon {total}", pytest.approx(12.0), None)


@pytest.mark.parametrize(
    "rails",
    [{}, {1: ("VDD_GPU_SOC", 5000, 1000), 2: ("VIN_SYS_5V0", 5000, 500)}],
    ids=["no sensor", "parts alone (AGX Orin)"],
)
def test_parts_alone_are_no_total(tmp_path, rails):
    plant(tmp_path, 0, rails)
    assert total_rail(tmp_path) is None


def test_a_rail_that_cannot_be_read_is_passed_over(tmp_path):
    plant(tmp_path, 0, {1: ("VDD_IN", 5000, 2400)})
    (tmp_path / "sys/class/hwmon/hwmon0/curr1_input").write_text("busy\n")
    assert total_rail(tmp_path) is None
    (tmp_path / "sys/class/hwmon/hwmon0/curr1_input").unlink()
    assert total_rail(tmp_path) is None


class Source:
    """A power that does not change, with or without a counter."""

    name, scope = "a test", "nothing"

    def __init__(self, counts: bool) -> None:
        self.counts, self.counted_j = counts, 100.0

    def watts(self) -> float:
        self.counted_j += 1.0
        return 8.0

    def joules(self) -> float | None:
        return self.counted_j if self.counts else None


def test_joules_are_mean_power_by_time_over_frames():
    energy = Energy(Source(counts=False), [8.0, 12.0] * MIN_SAMPLES, seconds=3.0)
    assert energy.joules_each(10) == pytest.approx(3.0)
    assert energy.to_json()["reason"] is None


def test_a_counter_of_energy_is_believed_before_samples():
    assert Energy(Source(counts=True), [8.0] * MIN_SAMPLES, 3.0, counted_j=30.0).joules_each(10) == pytest.approx(3.0)


def test_too_few_samples_give_no_figure_and_say_why():
    energy = Energy(Source(counts=True), [8.0] * (MIN_SAMPLES - 1), 3.0, counted_j=30.0)
    assert energy.joules_each(10) is None
    assert "too few" in energy.to_json()["reason"]


def test_without_a_source_nothing_is_said():
    with watching(None) as energy:
        pass
    assert energy.joules_each(1) is None
    assert (energy.to_json()["reason"], energy.samples_w) == (NO_SOURCE, [])


@pytest.mark.parametrize("counts", [True, False])
def test_a_block_is_watched_to_its_end(counts):
    source = Source(counts)
    with watching(source, every_s=0.001) as energy:
        while len(energy.samples_w) < MIN_SAMPLES:
            pass
    seen = len(energy.samples_w)
    assert energy.seconds > 0
    assert energy.joules_each(seen) is not None
    assert (energy.counted_j is not None) == counts
    assert len(energy.samples_w) == seen  # the thread is at its end


def test_clocks_of_a_jetson_are_read_in_mhz(tmp_path):
    cpu, gpu = tmp_path / "sys/devices/system/cpu/cpufreq/policy0", tmp_path / "sys/class/devfreq/17000000.gpu"
    for folder, now, most in ((cpu, "729600", "1510400"), (gpu, "306000000", "624750000")):
        folder.mkdir(parents=True)
        prefix = "scaling_" if folder == cpu else ""
        (folder / f"{prefix}cur_freq").write_text(f"{now}\n")
        (folder / f"{prefix}max_freq").write_text(f"{most}\n")
    (tmp_path / "sys/class/devfreq/broken").mkdir()
    assert describe_device(tmp_path)["clocks_mhz"] == {
        "policy0": {"now": 729.6, "max": 1510.4},
        "17000000.gpu": {"now": 306.0, "max": 624.75},
    }
