"""Measured layers on disk, by machine: a second network, or the same one again, measures only what is new."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunekit.errors import RunError
from prunekit.pruning.latency import Machine
from prunekit.run import read_json, write_json
from prunekit.validation import first_sentence
from prunekit_export.errors import ExportError
from prunekit_export.latency.layer_timing import LayerTime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FORMAT = 1
_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Channels = Annotated[int, Field(ge=1)]


class _MachineFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    runtime: str
    threads: int = Field(ge=0)
    precision: str


class _PointFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    channels_in: _Channels
    channels_out: _Channels
    layer_ms: _Milliseconds
    around_ms: _Milliseconds
    passes: int = Field(default=2, ge=1)  # files of earlier versions hold what two passes found


class _CacheFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    machine: _MachineFile
    layers: dict[str, list[_PointFile]]


class _Measured(NamedTuple):
    """The fastest time of one layer at one pair of widths."""

    time: LayerTime
    passes: int
    """How often it was measured."""


class LatencyCache:
    """Times of layers on one machine, kept in a JSON file of `folder`.

    Args:
        machine: what the times hold for; each machine has a file of its own.
        folder: where the files lie; None is prunekit's place in the user's cache.

    Raises:
        ExportError: the file is damaged, or was written for another machine.
    """

    def __init__(self, machine: Machine, folder: Path | None = None) -> None:
        self.machine = machine
        self.path = (folder or cache_folder()) / f"{_digest(machine)}.json"
        self._points = self._read()

    def __len__(self) -> int:
        return len(self._points)

    def get(self, layer: str, channels_in: int, channels_out: int) -> LayerTime | None:
        """Return the fastest time that was measured, or None."""
        found = self._points.get((layer, channels_in, channels_out))
        return found.time if found else None

    def passes(self, layer: str, channels_in: int, channels_out: int) -> int:
        """Return how often it was measured."""
        found = self._points.get((layer, channels_in, channels_out))
        return found.passes if found else 0

    def add(self, layer: str, channels_in: int, channels_out: int, time: LayerTime) -> None:
        """Count a measurement, and keep the time if it is the fastest; `save` writes it."""
        before = self._points.get((layer, channels_in, channels_out), _Measured(time, 0))
        fastest = min(before.time, time, key=lambda entry: entry.layer_ms)
        self._points[layer, channels_in, channels_out] = _Measured(fastest, before.passes + 1)

    def save(self) -> None:
        """Write the file, atomically, with what another process has written to it meanwhile.

        Raises:
            ExportError: the folder cannot be written to.
        """
        self._points = {**self._read(), **self._points}
        layers: dict[str, list[dict[str, Any]]] = {}
        for (layer, channels_in, channels_out), (time, passes) in sorted(self._points.items()):
            row = {"channels_in": channels_in, "channels_out": channels_out, **asdict(time), "passes": passes}
            layers.setdefault(layer, []).append(row)
        try:
            write_json(self.path, {"format": _FORMAT, "machine": asdict(self.machine), "layers": layers})
        except OSError as error:
            raise ExportError(
                f"Measured latencies cannot be kept in {self.path.parent}: {error}. Set XDG_CACHE_HOME to a folder "
                "that can be written to."
            ) from error

    def _read(self) -> dict[tuple[str, int, int], _Measured]:
        if not self.path.exists():
            return {}
        try:
            values = read_json(self.path)
        except RunError as error:
            reason = str(error).removesuffix(" Repeat the step that writes it.")
            raise ExportError(f"{reason} Delete it; what it holds is measured again.") from None
        file = _validated(self.path, values)
        written = Machine(**file.machine.model_dump())
        if written != self.machine:
            raise ExportError(f"{self.path} was measured on {written}, not on {self.machine}. Delete it.")
        return {
            (layer, point.channels_in, point.channels_out): _Measured(
                LayerTime(point.layer_ms, point.around_ms), point.passes
            )
            for layer, points in file.layers.items()
            for point in points
        }


def cache_folder() -> Path:
    """Return where measured latencies are kept: $XDG_CACHE_HOME/prunekit/latency, by default under ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "prunekit" / "latency"


def _digest(machine: Machine) -> str:
    return hashlib.sha256(json.dumps(asdict(machine), sort_keys=True).encode()).hexdigest()[:16]


def _validated(path: Path, values: Mapping[str, Any]) -> _CacheFile:
    if values.get("format") != _FORMAT:
        raise ExportError(f"{path} has format {values.get('format')}; this prunekit reads {_FORMAT}. Delete it.")
    try:
        return _CacheFile.model_validate(values, strict=True)
    except ValidationError as error:
        raise ExportError(f"{path} is damaged: {first_sentence(error, _CacheFile)}. Delete it.") from None
