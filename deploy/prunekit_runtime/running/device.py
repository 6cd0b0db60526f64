"""What a measurement was taken on: a number without its machine, clocks and temperature cannot be compared."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

_COMMAND_TIMEOUT_S = 5.0


def describe_device(root: Path = Path("/")) -> dict[str, Any]:
    """Return board, CPU, system, power mode, clocks and temperatures; what the machine does not tell is None.

    Nothing is changed: power mode and clocks need root, so they are recorded, not set. `root` is where /proc, /sys
    and /etc are looked for.
    """
    return {
        "board": _text(root / "proc/device-tree/model"),
        "cpu": _cpu(root),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "jetson_linux": _text(root / "etc/nv_tegra_release"),
        "power_mode": _output("nvpmodel", "-q"),
        "cpu_governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clocks_mhz": _clocks_mhz(root),
        "temperatures_celsius": _temperatures_celsius(root),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _cpu(root: Path) -> str | None:
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None


def _temperatures_celsius(root: Path) -> dict[str, float]:
    temperatures: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _text(zone / "temp")
        if name and value and value.lstrip("-").isdigit():
            temperatures[name] = int(value) / 1000  # the kernel gives thousandths
    return temperatures


def _clocks_mhz(root: Path) -> dict[str, dict[str, float]]:
    """Return {"now", "max"} by clock: cores of the CPU, and on a Jetson the GPU, memory and what else is scaled."""
    clocks: dict[str, dict[str, float]] = {}
    places = (
        ("sys/devices/system/cpu/cpufreq/policy*", "scaling_cur_freq", "scaling_max_freq", 1e3),  # kHz
        ("sys/class/devfreq/*", "cur_freq", "max_freq", 1e6),  # Hz
    )
    for pattern, now_file, max_file, unit_per_mhz in places:
        for place in sorted(root.glob(pattern)):
            now, most = _text(place / now_file), _text(place / max_file)
            if now and most and now.isdigit() and most.isdigit():
                clocks[place.name] = {"now": int(now) / unit_per_mhz, "max": int(most) / unit_per_mhz}
    return clocks


def _text(path: Path) -> str | None:
    try:
        # The device tree ends its strings with a zero byte.
        return path.read_text(errors="replace").strip(" \n\0") or None
    except OSError:
        return None


def _output(program: str, *arguments: str) -> str | None:
    found = shutil.which(program)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, *arguments], capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
