"""The range of every activation that is quantised, from calibration images, by ONNX Runtime's calibrators."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from prunekit.progress import counted
from prunekit.run import write_atomically
from prunekit_export.errors import ExportError
from prunekit_export.quantising.layers import PRODUCTS
from prunekit_runtime.jsonfile import parse_json, read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

Calibration = Literal["entropy", "percentile", "minmax"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)
PERCENTILE = 99.99
_BINS, _PERCENTILE_BINS = 128, 2048
_MAX_CACHE_BYTES = 1 << 24


@dataclass(frozen=True)
class Ranges:
    """The largest magnitude that int8 reaches, by tensor."""

    method: Calibration
    images: int
    largest: Mapping[str, float]


def calibrated(path: Path, batches_N3hw: Sequence[FloatArray], method: Calibration) -> Ranges:
    """Return the ranges of a float32 file on images; kept by content, so the same question is answered at once.

    Args:
        path: the ONNX file.
        batches_N3hw: prepared images.
        method: minmax takes the largest magnitude; percentile leaves out the largest 0.01 % of the values; entropy
            (Kullback and Leibler) loses the least of their distribution.

    Raises:
        ExportError: there are no images, or the file does not run on them.
    """
    if not batches_N3hw:
        raise ExportError("int8 needs calibration images, and there are none. Give some, or export fp16.")
    count = sum(len(batch) for batch in batches_N3hw)
    kept = cache_folder() / f"{_key(path, batches_N3hw, method)}.json"
    largest = _read(kept)
    if largest is None:
        largest = _measured(path, batches_N3hw, method)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, (json.dumps(largest, indent=1) + "\n").encode())
    return Ranges(method, count, largest)


def cache_folder() -> Path:
    """Return where calibrations are kept: `prunekit/calibration` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunekit" / "calibration"


def _key(path: Path, batches_N3hw: Sequence[FloatArray], method: str) -> str:
    from prunekit_runtime.running.ort import require_onnxruntime

    digest = hashlib.sha256(path.read_bytes())
    for batch_N3hw in batches_N3hw:
        digest.update(repr(batch_N3hw.shape).encode() + np.ascontiguousarray(batch_N3hw).tobytes())
    digest.update(f"{method} {PERCENTILE} {_BINS} {_PERCENTILE_BINS} {require_onnxruntime().__version__}".encode())
    return digest.hexdigest()


def _read(kept: Path) -> dict[str, float] | None:
    """Return kept ranges; None where there are none that can be used."""
    try:
        values: Any = parse_json(read_bounded(kept, _MAX_CACHE_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict):
        return None
    found = cast("dict[str, Any]", values)
    usable = all(isinstance(value, float) and 0 <= value < np.inf for value in found.values())
    return cast("dict[str, float]", found) if usable and found else None


def _measured(path: Path, batches_N3hw: Sequence[FloatArray], method: Calibration) -> dict[str, float]:
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    methods: dict[str, Any] = {
        "entropy": (CalibrationMethod.Entropy, {"num_bins": _BINS, "num_quantized_bins": _BINS}),
        "percentile": (CalibrationMethod.Percentile, {"num_bins": _PERCENTILE_BINS, "percentile": PERCENTILE}),
        "minmax": (CalibrationMethod.MinMax, {}),
    }
    chosen, options = methods[method]
    # The calibrators print to the terminal.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        calibrator: Any = create_calibrator(
            path,
            list(PRODUCTS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=chosen,
            extra_options={**options, "symmetric": True},
        )
        for batch_N3hw in counted(batches_N3hw, "Calibrating", len(batches_N3hw)):
            # One call a batch: a call keeps every activation of all that it reads.
            calibrator.collect_data(_Reader(calibrator.model.graph.input[0].name, batch_N3hw))
        data = calibrator.compute_data()
    return {name: _largest(found) for name, found in data.items()}


def _largest(found: Any) -> float:
    return float(max(np.abs(found.lowest).max(), np.abs(found.highest).max()))


class _Reader:
    """One batch, as ONNX Runtime's calibrators read it."""

    def __init__(self, name: str, batch_N3hw: FloatArray) -> None:
        self._feeds = iter([{name: batch_N3hw}])

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the batch, then nothing."""
        return next(self._feeds, None)
