"""The CPU backend builds nothing: ONNX Runtime opens the file once, and a key is kept as for an engine."""

import hashlib
import platform
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prunekit_runtime.building.engine import Built, Bundle, Entry, read_onnx
from prunekit_runtime.building.folder import BuiltFolder
from prunekit_runtime.building.record import Record, to_bytes
from prunekit_runtime.building.settings import BuildOptions
from prunekit_runtime.building.told import OnStep
from prunekit_runtime.errors import BuildError
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.running.ort import PROVIDERS, require_onnxruntime
from prunekit_runtime.text import printable_name

_PROVIDER = PROVIDERS["cpu"]


def open_onnx(bundle: Bundle, entry: Entry, options: BuildOptions, on_step: OnStep) -> Built:
    """Open a model in ONNX Runtime on the CPU, and keep a key in `built/` that says with what; nothing else is built.

    Raises:
        BuildUsageError: options are set that only TensorRT can follow.
        RunnerError: ONNX Runtime is missing.
        BuildError: it does not open the file.
    """
    options.refuse_for_ort()
    onnxruntime = require_onnxruntime()
    path, folder = entry.path(bundle.folder), BuiltFolder(bundle.built_dir)
    content = read_onnx(path)
    on_step(f"opening {printable_name(entry.name)} in ONNX Runtime on the CPU; nothing has to be built")
    start_s = time.monotonic()
    described = _opened(onnxruntime, path)
    record = Record(
        entry=entry.name,
        precision=entry.precision,
        graph=entry.graph,
        bound_to={
            "onnx_sha256": hashlib.sha256(content).hexdigest(),
            "package": "onnxruntime",
            "package_version": str(onnxruntime.__version__),
            "architecture": platform.machine(),
        },
        options={},
        engine_sha256=None,
        engine_bytes=len(content),
        made={
            "built_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start_s, 1),
            "provider": _PROVIDER,
            **described,
        },
    )
    with folder.locked():
        write_whole(folder.record(entry.name, "ort"), to_bytes(record.to_json()))
    return Built(path, record, folder.record(entry.name, "ort"), None, is_new=True)


def _opened(onnxruntime: Any, path: Path) -> dict[str, Any]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # fatal only: what matters comes back as an exception, in our words
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=settings, providers=[_PROVIDER])
    except Exception as error:  # ONNX Runtime's errors share no base class below Exception
        reason = printable_name((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise BuildError(f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {reason}") from error
    return {
        "inputs": [_described(item) for item in session.get_inputs()],
        "outputs": [_described(item) for item in session.get_outputs()],
    }


def _described(item: Any) -> dict[str, Any]:
    return {"name": printable_name(item.name), "type": item.type, "shape": [str(size) for size in item.shape]}
