"""Step trt-latency: dense against cut networks as TensorRT engines. A dry run puts ONNX Runtime in their place."""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gpu_steps.networks import AGAIN, family, subjects
from gpu_steps.onnx_files import EXPORT_NEEDS, FP16_NEEDS, check_logits, onnx_files
from gpu_steps.step import Bench, Job, Row, Step
from gpu_steps.steps.torch_latency import facts
from gpu_steps.tables import latency_table
from gpu_steps.timing import DRY, FULL, Call, compare
from prunekit_runtime.running.runner import Runner


def jobs(bench: Bench) -> Sequence[Job]:
    """Return a job for each network's engines in a precision."""
    modes = (("fp16", True),) if bench.dry_run else tuple(itertools.product(("fp16", "fp32"), (True, False)))
    return [
        Job(
            f"{name} | {precision}, {'CUDA graph' if graph else 'no graph'}",
            lambda n=name, p=precision, g=graph: _row(bench, n, p, graph=g),
            (*subject.needs, *(FP16_NEEDS if precision == "fp16" else ())),
        )
        for (name, subject), (precision, graph) in itertools.product(subjects(bench).items(), modes)
    ]


def _row(bench: Bench, name: str, precision: str, *, graph: bool) -> dict[str, Any]:
    subject, found = subjects(bench)[name], family(name, bench.device)
    images_13HW = torch.randn(1, 3, subject.height, subject.width)
    files = onnx_files(name, bench.device, precision, subject.height, subject.width)
    calls: dict[str, Call] = {}
    with contextlib.ExitStack() as opened:
        for member, path in files.items():
            runner = _opened(bench, path, tuple(images_13HW.shape), again=member == AGAIN, graph=graph)
            opened.callback(runner.close)
            logits_1Khw = torch.from_numpy(runner.run(images_13HW.numpy()))
            check_logits(logits_1Khw, found.members[member], images_13HW.to(bench.device), f"the engine in {precision}")
            calls[member] = _call(runner, images_13HW.numpy())
        times = compare(calls, _told_ms, DRY if bench.dry_run else FULL, bench.device)
    size = {"height": subject.height, "width": subject.width}
    mode = f"{precision}, {'CUDA graph' if graph else 'no graph'}, batch 1"
    return {**times, **facts(found), **size, "network": name, "mode": mode}


def _opened(bench: Bench, path: Path, shape: tuple[int, ...], *, again: bool, graph: bool) -> Runner:
    """Build a file's engine, unless an earlier start did, and open it; "dense again" is an engine built again."""
    if bench.dry_run:
        from prunekit_runtime.running.ort import OrtRunner

        return OrtRunner(path, "cpu", 1)
    import tensorrt  # pyright: ignore[reportMissingImports]  an extra

    from prunekit_export.engine import EngineOptions, Profile, build_engine
    from prunekit_runtime.running.trt import TrtRunner

    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    plan = bench.out / "engines" / f"{key}-{tensorrt.__version__}{'-again' if again else ''}.plan"
    if not plan.exists():
        batch, channels, height, width = shape
        dims = (batch, channels, height, width)
        plan.parent.mkdir(parents=True, exist_ok=True)
        build_engine(path, plan, profile=Profile(dims, dims, dims), options=EngineOptions(package="tensorrt"))
    return TrtRunner(plan, cuda_graph=graph)


def _call(runner: Runner, images_13HW: Any) -> Call:
    def run() -> float:
        started_s = time.perf_counter()
        runner.run(images_13HW)
        wall_ms = (time.perf_counter() - started_s) * 1e3
        return float(getattr(runner, "last_compute_ms", wall_ms))

    return run


def _told_ms(call: Call, calls: int) -> float:
    """Return the mean of what the calls say that they took."""
    told: list[Any] = [call() for _ in range(calls)]
    return sum(told) / calls


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        "The GPU's own time between both copies. Each engine is strongly typed and built once with TF32 off, the dense network's "
        "twice: its two engines may differ by more than the noise, since TensorRT chooses kernels by timing them."
    )
    return [how, "", *latency_table(rows)]


STEP = Step(
    "trt-latency",
    "Latency in TensorRT, dense against cut",
    (*EXPORT_NEEDS, "tensorrt"),
    (*EXPORT_NEEDS, "onnxruntime"),
    jobs,
    _table,
)
