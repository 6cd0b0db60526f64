"""Build the engine of one model of a bundle, unless the one that is there still fits."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from prunekit_runtime.building.compiling import Compiler, Resolved, network_layers
from prunekit_runtime.building.folder import MAX_CACHE_BYTES, BuiltFolder
from prunekit_runtime.building.layers import (
    LayerReport,
    layer_report,
    refuse_other_precision,
    refuse_parsed_precision,
)
from prunekit_runtime.building.machine import bound_to, free_memory_bytes, require_gpu, seal
from prunekit_runtime.building.package import TensorRt, load_tensorrt
from prunekit_runtime.building.record import Record, not_built, read_record, to_bytes, why_not
from prunekit_runtime.building.settings import BuildOptions, Profile, profile_for
from prunekit_runtime.building.told import OnStep
from prunekit_runtime.building.worker import in_thread
from prunekit_runtime.errors import BuildError
from prunekit_runtime.pictures.writing import write_whole
from prunekit_runtime.plainfile import open_plain
from prunekit_runtime.running.gpu import Gpu

_MIB = 1 << 20
MAX_ONNX_BYTES = 1 << 31  # what protobuf can hold


class Entry(Protocol):
    """What is asked of a model of a bundle."""

    @property
    def name(self) -> str:
        """Name for files and messages."""
        ...

    @property
    def precision(self) -> str:
        """Fp32, fp16 ..."""
        ...

    @property
    def graph(self) -> str:
        """Labels or logits."""
        ...

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Of the input, None where it takes any size."""
        ...

    @property
    def profile(self) -> Any:
        """{"min", "opt", "max"} where the input has open sizes."""
        ...

    def path(self, folder: Path) -> Path:
        """Where the file lies in a bundle's folder."""
        ...


class Bundle(Protocol):
    """What is asked of a bundle."""

    @property
    def folder(self) -> Path:
        """The bundle."""
        ...

    @property
    def built_dir(self) -> Path:
        """Where engines are kept."""
        ...


@dataclass(frozen=True)
class Built:
    """What is to be run, and where it came from."""

    path: Path
    record: Record
    record_path: Path
    layers_path: Path | None
    is_new: bool
    """False where what was there still fits."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        layers = None if self.layers_path is None else str(self.layers_path)
        return {"path": str(self.path), "layers": layers, "is_new": self.is_new, **self.record.to_json()}


@dataclass(frozen=True)
class Here:
    """TensorRT and the GPU of this machine."""

    tensorrt: TensorRt
    gpu: Gpu

    @classmethod
    def found(cls) -> "Here":
        """Return them.

        Raises:
            BuildError: there is no TensorRT, or no GPU.
        """
        return cls(load_tensorrt(), require_gpu())

    def bound_to(self, onnx_sha256: str) -> dict[str, Any]:
        """Return what an engine of a file belongs to here."""
        return {"onnx_sha256": onnx_sha256, **bound_to(self.tensorrt, self.gpu)}

    def workspace_mib(self, options: BuildOptions) -> int | None:
        """Return the limit on TensorRT's memory: as asked, or half of what is free where CPU and GPU share it."""
        free_bytes = free_memory_bytes() if self.gpu.shares_memory else None
        if options.workspace_mib is not None or free_bytes is None:
            return options.workspace_mib
        return max(1, free_bytes // 2 // _MIB)


def build_plan(bundle: Bundle, entry: Entry, options: BuildOptions, on_step: OnStep) -> Built:
    """Build an engine, its key and its layer report into `built/`; where one that fits is there, return that.

    Raises:
        BuildError: TensorRT or the GPU is missing, the build fails, or the engine computes in a wider type than its
            file says. Then nothing was changed.
    """
    here, folder = Here.found(), BuiltFolder(bundle.built_dir)
    content = read_onnx(entry.path(bundle.folder))
    profile = profile_for(entry.name, entry_shape(entry), profile_of(entry.profile), options)
    job = _Job(here, folder, entry, options, profile, content, on_step)
    with folder.locked():
        kept = None if options.force else job.kept()
        return kept or job.built()


def find_plan(bundle: Bundle, entry: Entry) -> Path:
    """Return the engine of a model, if its key fits this machine and its bytes are those that were built.

    Raises:
        BuildUsageError: it has to be built first; the message says why.
        BuildError: there is no TensorRT, or no GPU.
    """
    here, folder = Here.found(), BuiltFolder(bundle.built_dir)
    plan, record = folder.plan(entry.name), folder.record(entry.name, "tensorrt")
    if not record.exists() and not plan.exists():
        raise not_built(entry.name, "none was built")
    sha256 = hashlib.sha256(read_onnx(entry.path(bundle.folder))).hexdigest()
    reason = why_not(read_record(record), here.bound_to(sha256), plan)
    if reason is not None:
        raise not_built(entry.name, reason)
    return plan


def built_with_tf32(bundle: Bundle, entry: Entry) -> bool:
    """Tell whether float32 layers of the engine that was built were allowed to round to 10 bits of mantissa."""
    record = read_record(BuiltFolder(bundle.built_dir).record(entry.name, "tensorrt"))
    return not isinstance(record, str) and record.made.get("tf32") is True


def read_onnx(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        BuildError: it is larger than an ONNX file can be.
        OSError: it cannot be read.
    """
    with open_plain(path) as file:
        content = file.read(MAX_ONNX_BYTES + 1)
    if len(content) > MAX_ONNX_BYTES:
        raise BuildError(f"{path} is larger than an ONNX file can be. Write the bundle again.")
    return content


@dataclass(frozen=True)
class _Job:
    here: Here
    folder: BuiltFolder
    entry: Entry
    options: BuildOptions
    profile: Profile
    content: bytes
    on_step: OnStep

    @property
    def bound_to(self) -> dict[str, Any]:
        return self.here.bound_to(hashlib.sha256(self.content).hexdigest())

    def kept(self) -> "Built | None":
        """Return what is there, if it is what a build would give again."""
        name = self.entry.name
        plan, path = self.folder.plan(name), self.folder.record(name, "tensorrt")
        record = read_record(path)
        if isinstance(record, str) or why_not(record, self.bound_to, plan) is not None:
            return None
        if record.options != self.options.asked(self.profile) or record.precision != self.entry.precision:
            return None
        layers = self.folder.layers(name)
        return Built(plan, record, path, layers if layers.exists() else None, is_new=False)

    def built(self) -> Built:
        """Build, and put all files in place when all of them are there."""
        stop, start_s = threading.Event(), time.monotonic()
        mark = seal(json.dumps(bound_to(self.here.tensorrt, self.here.gpu), sort_keys=True))
        timings = self.folder.timings(mark)
        made = in_thread(lambda: self._compiled(stop, _read_cache(timings)), stop)
        if made.resolved.timing_cache is not None:
            write_whole(timings, made.resolved.timing_cache)
        return self._published(made, time.monotonic() - start_s)

    def _compiled(self, stop: threading.Event, cache: bytes) -> "_Made":
        compiler = Compiler(self.here.tensorrt, self.on_step, stop)
        network = compiler.parse(self.content, self.entry.name)
        refuse_other_shape(self.entry, network.get_input(0).shape)
        parsed = network_layers(network)
        refuse_parsed_precision(self.entry.precision, parsed)
        limit_mib = self.here.workspace_mib(self.options)
        plan, resolved = compiler.build(network, self.profile, self.options, limit_mib, cache)
        self.on_step("loading the engine, and asking what it computes in")
        report = layer_report(parsed, compiler.inspect(plan, self.profile))
        refuse_other_precision(self.entry.precision, report)
        return _Made(plan, resolved, report, tuple(compiler.messages.warnings))

    def _published(self, made: "_Made", seconds: float) -> Built:
        name = self.entry.name
        plan, path, layers = self.folder.plan(name), self.folder.record(name, "tensorrt"), self.folder.layers(name)
        record = Record(
            entry=name,
            precision=self.entry.precision,
            graph=self.entry.graph,
            bound_to=self.bound_to,
            options=self.options.asked(self.profile),
            engine_sha256=hashlib.sha256(made.plan).hexdigest(),
            engine_bytes=len(made.plan),
            made=made.to_json(seconds),
        )
        path.unlink(missing_ok=True)  # from here to the new key no engine is found, whatever ends the build
        write_whole(plan, made.plan)
        write_whole(layers, to_bytes(made.report.to_json()))
        write_whole(path, to_bytes(record.to_json()))
        return Built(plan, record, path, layers, is_new=True)


@dataclass(frozen=True)
class _Made:
    plan: bytes
    resolved: Resolved
    report: LayerReport
    warnings: tuple[str, ...]

    def to_json(self, seconds: float) -> dict[str, Any]:
        shown = replace(self.resolved, timing_cache=None)
        return {
            "built_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "tf32": shown.tf32,
            "optimization_level": shown.optimization_level,
            "workspace_mib": shown.workspace_mib,
            "timing_cache_used": shown.timing_cache_taken,
            "layers": self.report.summary(),
            "warnings": list(self.warnings)[-8:],
        }


def entry_shape(entry: Entry) -> tuple[int, ...]:
    """Return the shape of a model's input, -1 where it takes any size."""
    return tuple(-1 if size is None else size for size in entry.input_shape)


def profile_of(values: Any) -> "Profile | None":
    """Return the sizes that a bundle writes as {"min", "opt", "max"}; None where there are none."""
    return Profile(*(tuple(values[key]) for key in ("min", "opt", "max"))) if values else None


def refuse_other_shape(entry: Entry, shape: Any) -> None:
    """Refuse a file whose input is not the one that the bundle describes.

    Raises:
        BuildError: it is not.
    """
    got, wanted = tuple(int(size) for size in shape), entry_shape(entry)
    if got != wanted:
        raise BuildError(f"{entry.name} takes {got}, and the bundle says {wanted}. Write the bundle again.")


def _read_cache(path: Path) -> bytes:
    try:
        with open_plain(path) as file:
            content = file.read(MAX_CACHE_BYTES + 1)
    except OSError:
        return b""
    return content if len(content) <= MAX_CACHE_BYTES else b""
