"""Which TensorRT is here: TensorRT itself, or TensorRT-RTX, under one face."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from prunekit_runtime.errors import BuildError, BuildUsageError
from prunekit_runtime.running.plan import Package

PACKAGES: tuple[Package, ...] = ("tensorrt", "tensorrt_rtx")
NO_TENSORRT = (
    "TensorRT is not installed for this Python. On a Jetson it comes with JetPack (apt install python3-libnvinfer) for "
    "the system's python3; elsewhere: pip install tensorrt. To run the ONNX file on the CPU: --backend ort."
)


@dataclass(frozen=True)
class TensorRt:
    """The module, the name it is imported by, and its version."""

    module: Any
    package: Package
    version: str


def load_tensorrt() -> TensorRt:
    """Import TensorRT, or TensorRT-RTX where that alone is installed.

    Raises:
        BuildUsageError: neither is installed.
        BuildError: one is installed and does not load.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is not None:
            module = _imported(package)
            return TensorRt(module, package, str(getattr(module, "__version__", "unknown")))
    raise BuildUsageError(NO_TENSORRT)


def _imported(package: Package) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise BuildError(f"{package} is installed but incomplete: {error}. Install it again.") from error
    except (ImportError, OSError) as error:  # a library below it is missing: the loader's words are the remedy
        raise BuildError(
            f"{package} is installed but does not load: {error}. In a container, start it with --runtime nvidia."
        ) from error
