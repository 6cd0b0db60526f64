# ruff: noqa: ARG002  the stand-in keeps the signatures of what it stands for
"""The GPU's name and driver, against a CUDA driver made of Python; no GPU answered in these tests."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.running.gpu import Gpu, describe_gpu

ORIN = {16: 16, 18: 1, 75: 8, 76: 7}


class Driver:
    """Answers as libcuda does: a status, and values behind pointers."""

    def __init__(self, name: bytes = b"Orin", count: int = 1, init: int = 0) -> None:
        self.name, self.count, self.init = name, count, init

    def cuInit(self, flags: Any) -> int:
        return self.init

    def cuDriverGetVersion(self, out: Any) -> int:
        return put(out, 12060)

    def cuDeviceGetCount(self, out: Any) -> int:
        return put(out, self.count)

    def cuDeviceGet(self, out: Any, ordinal: Any) -> int:
        return put(out, ordinal.value + 40)

    def cuDeviceGetName(self, buffer: Any, size: Any, device: Any) -> int:
        assert (size.value, device.value) == (256, 40)
        buffer.value = self.name
        return 0

    def cuDeviceGetPCIBusId(self, buffer: Any, size: Any, device: Any) -> int:
        assert (size.value, device.value) == (64, 40)
        buffer.value = b"0000:01:00.0"
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: Any) -> int:
        return put(out, 61 << 30)

    def cuDeviceGetAttribute(self, out: Any, number: Any, device: Any) -> int:
        return put(out, ORIN[number.value])

    def cuGetErrorString(self, status: Any, out: Any) -> int:
        out._obj.value = b"no CUDA-capable device is detected"
        return 0


def put(out: Any, value: int) -> int:
    out._obj.value = value
    return 0


def test_a_gpu_is_named_with_all_that_an_engine_depends_on(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\nGCC version:  gcc 11.4.0\n"
    )
    assert describe_gpu(tmp_path, Driver()) == Gpu(
        name="Orin",
        sm="8.7",
        multiprocessors=16,
        memory_bytes=61 << 30,
        shares_memory=True,
        count=1,
        driver="540.4.0",
        cuda_driver="12.6",
        pci_bus_id="0000:01:00.0",
    )


def test_the_driver_says_why_there_is_no_gpu(tmp_path: Path) -> None:
    refused = describe_gpu(tmp_path, Driver(init=100))
    assert (refused.name, refused.missing) == (
        None,
        "the CUDA driver refuses cuInit with 100: no CUDA-capable device is detected",
    )
    assert describe_gpu(tmp_path, Driver(count=0)).missing == "CUDA counts no GPU"


def test_a_machine_without_a_driver_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    gpu = describe_gpu(tmp_path)
    assert gpu.name is None
    assert gpu.missing == "the CUDA driver is not here: libcuda.so.1: cannot open shared object file"


def test_a_name_cannot_command_a_terminal(tmp_path: Path) -> None:
    assert describe_gpu(tmp_path, Driver(name=b"\x1b[31mOrin\xff")).name == "\\x1b[31mOrin\N{REPLACEMENT CHARACTER}"
