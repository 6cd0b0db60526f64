"""The machine: Python, GPU, CUDA, Jetson Linux, power mode, memory and disk. Nothing is changed by looking."""

import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prunekit_runtime.building import free_memory_bytes, jetson_linux
from prunekit_runtime.doctoring.finding import Finding, in_range
from prunekit_runtime.errors import RunnerError, RunnerUsageError
from prunekit_runtime.running import cuda as cuda_runtime
from prunekit_runtime.running.gpu import Gpu
from prunekit_runtime.text import printable_name

OLDEST_PYTHON, OLDEST_NUMPY = "3.10", "1.21"
_LOW_MEMORY_BYTES = 1 << 30
_LOW_DISK_BYTES = 1 << 29
_GIB = 1 << 30
# Jetson Linux by major release; TensorRT 10.3 came with JetPack 6.1, which is 36.4.
_JETPACKS = {"35": "JetPack 5", "36": "JetPack 6", "38": "JetPack 7", "39": "JetPack 7"}


def machine_findings(gpu: Gpu, device: Mapping[str, Any], folder: Path, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what is found of the machine.

    Args:
        gpu: as `describe_gpu` tells it.
        device: as `describe_device` tells it.
        folder: where a bundle lies or will lie; its disk is looked at.
        root: where /proc and /etc are looked for.
    """
    yield _hardware(device)
    yield _version("Python", platform.python_version(), OLDEST_PYTHON)
    yield _version("numpy", np.__version__, OLDEST_NUMPY)
    yield _gpu(gpu)
    yield _cuda_runtime(gpu)
    yield from _jetson(device, root)
    yield _memory(root)
    yield _disk(folder)


def _version(subject: str, version: str, oldest: str) -> Finding:
    if in_range(version, oldest):
        return Finding(subject, "ok", version)
    return Finding(subject, "missing", version, f"{subject} {oldest} or newer is needed")


def _gpu(gpu: Gpu) -> Finding:
    if gpu.name is None:
        return Finding(
            "GPU", "missing", gpu.missing or "none", "see whether the driver works: nvidia-smi, on a Jetson tegrastats"
        )
    more = f", the first of {gpu.count}" if gpu.count > 1 else ""
    driver = f"driver {gpu.driver or 'unknown'}, CUDA {gpu.cuda_driver}"
    return Finding("GPU", "ok", f"{gpu.name}, compute capability {gpu.sm}, {driver}{more}")


def _hardware(device: Mapping[str, Any]) -> Finding:
    told = [device.get("board") or device.get("cpu") or "processor not told", f"{device.get('cpus')} CPUs"]
    told += [f"{name.replace('_', ' ')} {value}" for name, value in device.items() if value and _is_clock(name)]
    return Finding("machine", "ok", printable_name(", ".join(map(str, told))))


def _is_clock(name: str) -> bool:
    return "clock" in name or "governor" in name or "temperature" in name


def _cuda_runtime(gpu: Gpu) -> Finding:
    try:
        return Finding("CUDA runtime", "ok", cuda_runtime.open_cuda().runtime_version())
    except RunnerUsageError as error:  # the library is here, and has no GPU
        tried = "its library loads; there is no GPU to try it on" if gpu.name is None else printable_name(str(error))
        return Finding("CUDA runtime", "note" if gpu.name is None else "missing", tried)
    except (RunnerError, AttributeError) as error:  # a library that lacks a function is none
        return Finding(
            "CUDA runtime",
            "missing",
            printable_name(str(error).split(". ")[0]),
            "on a Jetson install the JetPack packages; elsewhere: pip install nvidia-cuda-runtime",
        )


def _jetson(device: Mapping[str, Any], root: Path) -> Iterator[Finding]:
    release = jetson_linux(root)
    if release is None:
        return
    jetpack = _JETPACKS.get(release.split(".")[0])
    board = f"{device['board']}, " if device.get("board") else ""
    found = printable_name(f"{board}Jetson Linux {release}{f' ({jetpack})' if jetpack else ''}")
    if re.match(r"\d+\.\d+", release) and not in_range(release, "36.4"):
        yield Finding("Jetson", "missing", found, "install JetPack 6.1 or newer: older ones have no TensorRT 10.3")
    else:
        yield Finding("Jetson", "ok", found)
    mode = printable_name(" ".join(str(device.get("power_mode") or "not told").split()))
    yield Finding(
        "power mode",
        "note" if mode == "not told" else "ok",
        mode,
        "it is recorded, not set; latencies compare under one mode: nvpmodel -q, sudo jetson_clocks",
    )


def _memory(root: Path) -> Finding:
    free_bytes = free_memory_bytes(root)
    if free_bytes is None:
        return Finding("memory", "note", "not told by this system")
    found = f"{free_bytes / _GIB:.1f} GiB free"
    if free_bytes < _LOW_MEMORY_BYTES:
        return Finding("memory", "note", found, "TensorRT leaves out kernels that need more: close other programs")
    return Finding("memory", "ok", found)


def _disk(folder: Path) -> Finding:
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "note", f"not told: {error.strerror}")
    found = f"{free_bytes / _GIB:.1f} GiB free"
    if free_bytes < _LOW_DISK_BYTES:
        return Finding("disk", "note", found, "an engine takes up to twice the size of its ONNX file: free some space")
    return Finding("disk", "ok", found)
