"""What was measured on: GPU, driver, versions, clocks and temperature. Nothing is set, only read."""

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import torch

import prunekit
from prunekit_runtime.running.device import describe_device

PACKAGES: Final = (
    *("torchvision", "segmentation-models-pytorch", "transformers", "timm", "numpy"),
    *("onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt"),
)
CLOCKS: Final = {
    "sm_MHz": "clocks.sm",
    "memory_MHz": "clocks.mem",
    "most_sm_MHz": "clocks.max.sm",
    "celsius": "temperature.gpu",
    "watts": "power.draw",
    "used_percent": "utilization.gpu",
}
"""What nvidia-smi is asked for, by the name it gets here."""
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
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _driver()}
    return found


def clocks(device: str) -> dict[str, float]:
    """Return clocks, temperature and power now; what nvidia-smi does not tell is left out."""
    if device != "cuda":
        return {}
    answers = _asked(",".join(CLOCKS.values())).split(",")
    found: dict[str, float] = {}
    for name, answer in zip(CLOCKS, answers, strict=False):
        try:
            found[name] = float(answer)
        except ValueError:  # "[N/A]"
            continue
    return found


def temperatures(found: dict[str, float]) -> dict[str, Any]:
    """Return clocks as `measuring.frames.verdict` reads temperatures."""
    return {"gpu": found["celsius"]} if "celsius" in found else {}


def _driver() -> str:
    return _asked("driver_version").strip()


def _asked(query: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, f"--query-gpu={query}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


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
