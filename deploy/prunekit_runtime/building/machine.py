"""What an engine is bound to: TensorRT's version, the GPU, its driver, the Jetson's system."""

import hashlib
import hmac
import platform
import re
from pathlib import Path
from typing import Any

from prunekit_runtime.building.package import TensorRt
from prunekit_runtime.errors import BuildUsageError
from prunekit_runtime.running.gpu import Gpu, describe_gpu
from prunekit_runtime.text import printable_name

_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_MAX_TEXT = 200


def require_gpu(root: Path = Path("/")) -> Gpu:
    """Return the GPU that an engine is built for.

    Raises:
        BuildUsageError: there is none.
    """
    gpu = describe_gpu(root)
    if gpu.name is None:
        raise BuildUsageError(
            f"No usable NVIDIA GPU: {gpu.missing}. TensorRT builds an engine on the device that runs it; to run the "
            "ONNX file on the CPU: --backend ort."
        )
    return gpu


def bound_to(tensorrt: TensorRt, gpu: Gpu, root: Path = Path("/")) -> dict[str, Any]:
    """Return what an engine of this machine belongs to, without the file it is built from."""
    return {
        "package": tensorrt.package,
        "package_version": tensorrt.version,
        "gpu": gpu.name,
        "sm": gpu.sm,
        "driver": gpu.driver,
        "cuda_driver": gpu.cuda_driver,
        "jetson_linux": jetson_linux(root),
        "architecture": platform.machine(),
    }


def jetson_linux(root: Path = Path("/")) -> str | None:
    """Return the release of Jetson Linux, such as 36.4.3, or None on another machine."""
    text = _text(root / "etc/nv_tegra_release")
    if text is None:
        return None
    found = _RELEASE.search(text)
    return ".".join(found.groups()) if found else printable_name(text.splitlines()[0][:_MAX_TEXT]) if text else None


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that programs can still get, as the kernel estimates it."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def seal(content: str, root: Path = Path("/")) -> str:
    """Return a mark on `content` that only this machine can make, so that an engine made elsewhere is not run here.

    An engine is code. A bundle from somebody else may hold one, with a key that fits; it cannot know this machine's id,
    which is used as systemd asks, never as it is. Where there is no id, as in many containers, the mark holds nothing.
    """
    identity = (_text(root / "etc/machine-id") or "").strip()
    return hmac.new(identity.encode(), b"prunekit engine\0" + content.encode(), hashlib.sha256).hexdigest()


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode(errors="replace")
    except OSError:
        return None
