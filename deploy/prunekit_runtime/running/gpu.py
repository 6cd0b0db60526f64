"""Which GPU an engine runs on: name, compute capability, memory and driver, asked of the CUDA driver by ctypes.

Signatures: CUDA Driver API reference, the same from CUDA 11 to 13. No context is made, so the GPU holds nothing.
"""

import ctypes
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunekit_runtime.text import printable_name

LIBRARY = "libcuda.so.1"
_NAME_BYTES, _BUS_BYTES = 256, 64
# CUdevice_attribute
_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76
_RELEASE = re.compile(r"\d+\.\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Gpu:
    """The first GPU that CUDA offers; each fact is None where the machine does not tell it."""

    name: str | None = None
    sm: str | None = None
    """Compute capability, such as 8.7."""
    multiprocessors: int | None = None
    memory_bytes: int | None = None
    shares_memory: bool | None = None
    """Whether it uses the CPU's memory, as on a Jetson."""
    count: int = 0
    driver: str | None = None
    """Release of the kernel driver, such as 540.4.0."""
    cuda_driver: str | None = None
    """Newest CUDA that the driver knows, such as 12.6."""
    pci_bus_id: str | None = None
    """Such as 0000:01:00.0."""
    missing: str | None = None
    """Why there is no GPU to be named."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as a JSON object."""
        return asdict(self)


def describe_gpu(root: Path = Path("/"), library: Any = None) -> Gpu:
    """Return what the CUDA driver says of the first GPU; where there is none, why.

    Args:
        root: where /proc and /sys are looked for.
        library: the loaded driver library; by default libcuda.so.1 is loaded.
    """
    release = _driver_release(root)
    try:
        driver = library or ctypes.CDLL(LIBRARY)
        _call(driver, "cuInit", ctypes.c_uint(0))
        return _first_gpu(driver, release)
    except (OSError, AttributeError) as error:  # no library, or one without these functions
        return Gpu(driver=release, missing=f"the CUDA driver is not here: {error}")
    except _DriverError as error:
        return Gpu(driver=release, missing=str(error))


def _first_gpu(driver: Any, release: str | None) -> Gpu:
    version, count = _integer(driver, "cuDriverGetVersion"), _integer(driver, "cuDeviceGetCount")
    known = f"{version // 1000}.{version % 1000 // 10}"  # 1000 major + 10 minor
    if count < 1:
        return Gpu(driver=release, cuda_driver=known, missing="CUDA counts no GPU")
    device = _integer(driver, "cuDeviceGet", ctypes.c_int(0))
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    bus = ctypes.create_string_buffer(_BUS_BYTES)
    _call(driver, "cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), ctypes.c_int(device))
    _call(driver, "cuDeviceGetPCIBusId", bus, ctypes.c_int(_BUS_BYTES), ctypes.c_int(device))
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), ctypes.c_int(device))

    def attribute(number: int) -> int:
        return _integer(driver, "cuDeviceGetAttribute", ctypes.c_int(number), ctypes.c_int(device))

    return Gpu(
        name=printable_name(name.value.decode(errors="replace")),
        sm=f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
        multiprocessors=attribute(_MULTIPROCESSORS),
        memory_bytes=memory.value,
        shares_memory=bool(attribute(_INTEGRATED)),
        count=count,
        driver=release,
        cuda_driver=known,
        pci_bus_id=printable_name(bus.value.decode(errors="replace")),
    )


class _DriverError(Exception):
    """A call of the driver failed; the message is a reason."""


def _integer(driver: Any, name: str, *arguments: Any) -> int:
    value = ctypes.c_int()
    _call(driver, name, ctypes.byref(value), *arguments)
    return value.value


def _call(driver: Any, name: str, *arguments: Any) -> None:
    status = int(getattr(driver, name)(*arguments))
    if status == 0:
        return
    words = ctypes.c_char_p()
    driver.cuGetErrorString(ctypes.c_int(status), ctypes.byref(words))
    said = (words.value or b"no reason given").decode(errors="replace")
    raise _DriverError(f"the CUDA driver refuses {name} with {status}: {said}")


def _driver_release(root: Path) -> str | None:
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  ..."; a Jetson's line has the same form.
    for name in ("sys/module/nvidia/version", "proc/driver/nvidia/version"):
        try:
            text = (root / name).read_text(errors="replace")[:4096]
        except OSError:
            continue
        found = _RELEASE.search(text.splitlines()[0] if text else "")
        if found:
            return found.group()
    return None
