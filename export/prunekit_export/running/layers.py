"""Which layers an ONNX file spends its time in: ONNX Runtime's own profile, joined to nodes and modules."""

from __future__ import annotations

import collections
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunekit_export.errors import ExportError
from prunekit_runtime.running.ort import is_quantised, require_onnxruntime
from prunekit_runtime.text import printable_name
from prunekit_runtime.timing.modules import MODULES, read_modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import onnx

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_KERNEL = "_kernel_time"
# Of what the optimiser makes of a node, and of what takes fp16 to the float32 kernels of a CPU and back.
_SUFFIX, _PREFIX = "_nchwc", "InsertedPrecisionFreeCast_"


@dataclass(frozen=True)
class LayerTime:
    """One kernel that ONNX Runtime ran."""

    node: str
    """Of the file, where the kernel can be traced to one; else what ONNX Runtime calls it."""
    module: str
    """Of the user's network, as `named_modules` calls it; empty where the file does not say."""
    op: str
    ms: float
    """Median over runs."""
    share: float
    """Of the time of all kernels."""


def profile_layers(
    path: Path, images: np.ndarray[Any, Any], *, threads: int, runs: int, warmup: int
) -> list[LayerTime]:
    """Run an ONNX file under ONNX Runtime's profiler on the CPU; return its kernels, the slowest first.

    The profiler itself takes some microseconds a kernel, so that the sum is a little above the file's latency.

    Args:
        path: the file.
        images: what it takes.
        threads: CPU threads; 0 leaves the choice to ONNX Runtime.
        runs: runs that count.
        warmup: runs before.

    Raises:
        ExportError: ONNX Runtime does not run it.
    """
    import onnx

    events = _profiled(path, images, threads, warmup + runs)
    nodes = _Nodes(onnx.load_model(path, load_external_data=False))
    return _layers(events, nodes, warmup)


def _profiled(path: Path, images: np.ndarray[Any, Any], threads: int, runs: int) -> list[Mapping[str, Any]]:
    runtime = require_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_profiling = True
    if is_quantised(path):  # as it is run elsewhere
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = runtime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
            for _ in range(runs):
                session.run(None, {session.get_inputs()[0].name: images})
            return json.loads(Path(session.end_profiling()).read_text())
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise ExportError(f"ONNX Runtime cannot time the layers of {path}: {error}") from error


class _Nodes:
    """The nodes of a file by their own name and by their results', and the modules they come from."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._by_name = {node.name: node for node in model.graph.node}
        self._by_result = {name: node for node in model.graph.node for name in node.output}
        told = next((entry.value for entry in model.metadata_props if entry.key == MODULES), "")
        self._modules = read_modules(told)

    def find(self, kernel: str, op: str) -> tuple[str, str]:
        """Return node and module of a kernel; a fused one belongs to its convolution or product."""
        name = kernel.removesuffix(_SUFFIX).removeprefix(_PREFIX)
        node = self._by_name.get(name) or self._by_result.get(name)
        if node is None:
            return kernel, ""
        if op.removeprefix("Fused") in _PRODUCTS or op in ("FusedConv", "FusedMatMul", "FusedGemm"):
            node = self._product_before(node) or node
        return node.name, self._modules.get(node.name, "")

    def _product_before(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the nearest product at or before a node, along first inputs that are made in the file."""
        seen: set[str] = set()
        current: onnx.NodeProto | None = node
        while current is not None and current.op_type not in _PRODUCTS and current.name not in seen:
            seen.add(current.name)
            made = (self._by_result[name] for name in current.input if name in self._by_result)
            current = next(made, None)
        return current if current is not None and current.op_type in _PRODUCTS else None


def _layers(events: Sequence[Mapping[str, Any]], nodes: _Nodes, warmup: int) -> list[LayerTime]:
    times_ms, ops = collections.defaultdict[str, list[float]](list), dict[str, str]()
    for name, op, ms in _kernels(events):
        times_ms[name].append(ms)
        ops[name] = op
    medians_ms = {name: statistics.median(times[warmup:] or times) for name, times in times_ms.items()}
    total_ms = sum(medians_ms.values()) or 1.0

    def layer(name: str, ms: float) -> LayerTime:
        node, module = nodes.find(name, ops[name])
        # Names are of the file, which others may have written.
        return LayerTime(printable_name(node), printable_name(module), printable_name(ops[name]), ms, ms / total_ms)

    return sorted((layer(name, ms) for name, ms in medians_ms.items()), key=lambda found: -found.ms)


def _kernels(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            yield name.removesuffix(_KERNEL), str(event["args"].get("op_name", "")), float(event["dur"]) * 1e-3
