"""A meter for pruning to a latency on a device: the runtime goes there, and times layers and whole cut networks."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import prunekit_runtime
from prunekit_export.latency import DeviceStopwatch, LatencyMeter, Runtime, device_timer, refuse_unmeasured
from prunekit_export.remote import Session, Target, copy_folder
from prunekit_runtime.plainfile import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from prunekit_export.remote import Host

_CACHE = ".cache/prunekit/runtime"
_NAME_DIGITS = 16


@contextlib.contextmanager
def device_meter(
    host: Host,
    runtime: Runtime = "tensorrt",
    *,
    threads: int = 1,
    precision: Literal["fp32", "fp16"] = "fp32",
    python: str = "python3",
    on_progress: Callable[[int, int], None] | None = None,
) -> Generator[LatencyMeter]:
    """Yield a meter for a device: TensorRT on its GPU, or ONNX Runtime on its CPU.

    What was measured is kept here, by device and version of the runtime there. A connection that is lost is opened
    again.

    Args:
        host: the device.
        runtime: what will run the network there.
        threads: CPU threads of ONNX Runtime; 0 leaves the number to it.
        precision: of TensorRT engines.
        python: the interpreter there, 3.10 or later with numpy.
        on_progress: told (points measured, points in all) while a table is made.

    Raises:
        ExportError: the device cannot be reached, or its runtime cannot measure; fp16 was asked of a CPU.
    """
    refuse_unmeasured(runtime, precision)
    session, files = Session(host), runtime_files()
    target = Target(_CACHE, _name_of(files), python)
    command = [python, "-m", "prunekit_runtime", "time-layers", "--backend", runtime, "--threads", str(threads)]
    try:
        copy_folder(session, _source(), files, target)
        with DeviceStopwatch(lambda: session.opened(command, folder=target.path), host.target) as stopwatch:
            timer = device_timer(stopwatch, runtime, threads=threads, precision=precision)
            yield LatencyMeter(timer, on_progress=on_progress)
    finally:
        session.end()


def runtime_files() -> Mapping[str, str]:
    """Return sha256 by path of the runtime's Python files, in the folder that holds it."""
    source = _source()
    paths = sorted((source / "prunekit_runtime").rglob("*.py"))
    return {path.relative_to(source).as_posix(): sha256_of(path)[0] for path in paths}


def _source() -> Path:
    return Path(prunekit_runtime.__file__).parent.parent


def _name_of(files: Mapping[str, str]) -> str:
    """Return a name that no other version of the runtime has."""
    listed: list[Any] = sorted(files.items())
    return hashlib.sha256(repr(listed).encode()).hexdigest()[:_NAME_DIGITS]
