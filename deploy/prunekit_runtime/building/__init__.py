"""Engines built on the device from a bundle's ONNX files, found again while they fit, with what they compute in."""

from pathlib import Path

from prunekit_runtime.building.compiling import Compiler as Compiler
from prunekit_runtime.building.engine import Built as Built
from prunekit_runtime.building.engine import Bundle, Entry, build_plan, find_plan
from prunekit_runtime.building.engine import Here as Here
from prunekit_runtime.building.engine import built_with_tf32 as built_with_tf32
from prunekit_runtime.building.machine import free_memory_bytes as free_memory_bytes
from prunekit_runtime.building.machine import jetson_linux as jetson_linux
from prunekit_runtime.building.onnx_file import open_onnx
from prunekit_runtime.building.package import load_tensorrt as load_tensorrt
from prunekit_runtime.building.settings import BACKENDS as BACKENDS
from prunekit_runtime.building.settings import Backend
from prunekit_runtime.building.settings import BuildOptions as BuildOptions
from prunekit_runtime.building.settings import Profile as Profile
from prunekit_runtime.building.told import OnStep
from prunekit_runtime.building.worker import in_thread as in_thread


def build_engine(
    bundle: Bundle,
    entry: Entry,
    options: BuildOptions,
    *,
    backend: Backend = "tensorrt",
    on_step: OnStep = lambda _: None,
) -> Built:
    """Build what a backend runs: an engine for TensorRT; for ONNX Runtime the file is opened once, and nothing built.

    Args:
        bundle: opened and verified.
        entry: one of its models.
        options: how to build.
        backend: who is to run it.
        on_step: told what is being done, often.

    Raises:
        BuildError: it cannot be built; nothing was changed.
    """
    build = build_plan if backend == "tensorrt" else open_onnx
    return build(bundle, entry, options, on_step)


def find_built(bundle: Bundle, entry: Entry, backend: Backend) -> Path:
    """Return what is to be run: the engine in `built/` that fits this machine, or for ONNX Runtime the ONNX file.

    Raises:
        BuildUsageError: the engine has to be built first; the message says why and how.
        BuildError: there is no TensorRT, or no GPU.
    """
    return find_plan(bundle, entry) if backend == "tensorrt" else entry.path(bundle.folder)
