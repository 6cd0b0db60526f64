"""What was measured on: GPU, driver, versions, clocks and temperature. Nothing is set, only read."""

import functools
import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import torch

import prunekit
from prunekit_runtime.measuring.conditions import Conditions, read_conditions
from prunekit_runtime.running.device import describe_device
from prunekit_runtime.running.gpu import describe_gpu
from prunekit_runtime.running.nvml import Nvml, open_nvml

PACKAGES: Final = (
    *("torchvision", "segmentation-models-pytorch", "transformers", "timm", "numpy"),
    *("onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt"),
)
_TIMEOUT_S = 20


def describe(device: str) -> dict[str, Any]:
    """Return what rows that stand in one table must have in common."""
    found: dict[str, Any] = {"device": "cpu", "torch": torch.__version__, "prunekit": prunekit.__version__}
    found |= {"commit": _commit(), "packages": {name: _version(name) for name in PACKAGES if _version(name)}}
    found |= {"python": platform.python_version(), "cpu": describe_device()["cpu"]}
    if device == "cuda":
        facts = torch.cuda.get_device_properties(0)
        found |= {"device": torch.cuda.get_device_name(0), "memory_MiB": facts.total_memory // 2**20}
        found |= {"capability": f"{facts.major}.{facts.minor}", "multiprocessors": facts.multi_processor_count}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": describe_gpu().driver}
    return found


def conditions(device: str) -> Conditions:
    """Read clocks, temperature, power and what slows the card; on a CPU only what the board tells."""
    return read_conditions(_nvml() if device == "cuda" else None)


@functools.cache
def _nvml() -> Nvml | None:
    return open_nvml(describe_gpu().pci_bus_id)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit of the checkout, with a plus where files were changed; empty without git."""
    root, git = Path(__file__).parents[2], shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    try:
        command = [git, "-C", str(root), "describe", "--always", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
