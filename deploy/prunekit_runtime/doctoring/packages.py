"""Packages that commands use where they are: TensorRT, ONNX Runtime, Pillow, OpenCV; each is imported."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

from prunekit_runtime.building import load_tensorrt
from prunekit_runtime.doctoring.finding import Finding, in_range
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.running.ort import require_onnxruntime
from prunekit_runtime.text import printable_name

# The engine code is held to the surfaces of these releases; TensorRT-RTX counts apart.
_TENSORRT = ("10.3", "12")
_RTX = ("1.3", "2")
_ONNXRUNTIME = "1.18"  # the first that reads files of IR version 10
_PILLOW = "JPEG and other pictures are read by it; PNG and PPM need nothing"
_OPENCV = "videos and cameras are read by it, and JPEG pictures: apt install python3-opencv"


def package_findings() -> Iterator[Finding]:
    """Yield what is found of each package."""
    yield _tensorrt()
    yield _onnxruntime()
    yield _optional("Pillow", "PIL", _PILLOW)
    yield _optional("OpenCV", "cv2", _OPENCV)


def _tensorrt() -> Finding:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's own imports
            found = load_tensorrt()
    except PrunekitError as error:
        return Finding("TensorRT", "missing", _reason(error), _remedy(error))
    name = printable_name(f"{found.package} {found.version}")
    lowest, below = _TENSORRT if found.package == "tensorrt" else _RTX
    if in_range(found.version, lowest, below):
        return Finding("TensorRT", "ok", name)
    remedy = f"{found.package} {lowest} or newer, and below {below}, is needed; JetPack 6.1 is the first that brings it"
    return Finding("TensorRT", "missing", name, remedy if found.package == "tensorrt" else remedy.split(";")[0])


def _onnxruntime() -> Finding:
    try:
        module = require_onnxruntime()
    except PrunekitError as error:
        return Finding("ONNX Runtime", "missing", _reason(error), "pip install onnxruntime")
    version = str(module.__version__)
    if in_range(version, _ONNXRUNTIME):
        return Finding("ONNX Runtime", "ok", printable_name(version))
    return Finding("ONNX Runtime", "missing", printable_name(version), f"{_ONNXRUNTIME} or newer reads these files")


def _optional(subject: str, package: str, use: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(subject, "note", "not installed", use)
    try:
        module: Any = importlib.import_module(package)
    except Exception as error:  # built for another numpy, or a library is missing: whatever it raises, it does not load
        return Finding(subject, "note", printable_name(f"installed, and does not load: {error}")[:300], use)
    return Finding(subject, "ok", printable_name(str(getattr(module, "__version__", "version unknown"))))


def _reason(error: PrunekitError) -> str:
    """Return the first sentence of an error: what."""
    return printable_name(str(error).split(". ")[0].rstrip("."))


def _remedy(error: PrunekitError) -> str:
    """Return the other sentences of an error: what to do."""
    return printable_name(str(error).partition(". ")[2].rstrip("."))
