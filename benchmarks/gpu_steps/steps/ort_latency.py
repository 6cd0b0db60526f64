"""Step ort-latency: dense against cut networks in ONNX Runtime's CUDA execution provider, and in no other."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_steps.networks import family, subjects
from gpu_steps.onnx_files import EXPORT_NEEDS, FP16_NEEDS, check_logits, onnx_files
from gpu_steps.step import Bench, GpuRefusedError, Job, Row, Step
from gpu_steps.steps.torch_latency import facts
from gpu_steps.tables import latency_table
from gpu_steps.timing import DRY, FULL, Call, compare, wall_ms

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
MODES = tuple(itertools.product(("fp32", "tf32", "fp16"), (True, False)))


def jobs(bench: Bench) -> Sequence[Job]:
    """Return a job a network, precision, and with or without CUDA graphs."""
    modes = (("fp32", True), ("fp16", True)) if bench.dry_run else MODES
    return [
        Job(
            f"{name} | {precision}, {'CUDA graph' if graph else 'no graph'}",
            lambda n=name, p=precision, g=graph: _row(bench, n, p, graph=g),
            (*subject.needs, *(FP16_NEEDS if precision == "fp16" else ())),
        )
        for (name, subject), (precision, graph) in itertools.product(subjects(bench).items(), modes)
    ]


def _row(bench: Bench, name: str, precision: str, *, graph: bool) -> dict[str, Any]:
    require_provider(bench.device)  # before minutes are spent on files
    subject, found = subjects(bench)[name], family(name, bench.device)
    images_13HW = torch.randn(1, 3, subject.height, subject.width)
    files = onnx_files(name, bench.device, precision, subject.height, subject.width)
    calls: dict[str, Call] = {}
    for member, path in files.items():
        session = opened(path, bench.device, precision, graph=graph)
        calls[member], output = bound(session, images_13HW.numpy(), bench.device)
        calls[member]()
        logits_1Khw = torch.from_numpy(output.numpy())
        check_logits(logits_1Khw, found.members[member], images_13HW.to(bench.device), f"ONNX Runtime in {precision}")
    times = compare(calls, wall_ms, DRY if bench.dry_run else FULL, bench.device)
    mode = f"{precision}, {'CUDA graph' if graph else 'no graph'}, batch 1"
    return {**times, **facts(found), "network": name, "mode": mode, "height": subject.height, "width": subject.width}


def require_provider(device: str) -> Any:
    """Return the module onnxruntime if it has the provider of a device.

    Raises:
        GpuRefusedError: it has not; nothing runs elsewhere instead.
    """
    from prunekit_runtime.running.ort import require_onnxruntime

    onnxruntime, wanted = require_onnxruntime(), PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if wanted not in available:
        raise GpuRefusedError(
            f"This ONNX Runtime ({onnxruntime.__version__}) has no {wanted}, only {', '.join(available)}. "
            "Install onnxruntime-gpu in place of onnxruntime."
        )
    return onnxruntime


def opened(path: Path, device: str, precision: str, *, graph: bool) -> Any:
    """Open a file on the provider of a device alone.

    Raises:
        GpuRefusedError: a part of it would run elsewhere.
    """
    onnxruntime, wanted = require_provider(device), PROVIDERS[device]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    settings: dict[str, str] = {}
    if device == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings = {"use_tf32": "1" if precision == "tf32" else "0", "enable_cuda_graph": "1" if graph else "0"}
        settings["cudnn_conv_algo_search"] = "EXHAUSTIVE"
    else:
        options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=[(wanted, settings)])
    except Exception as error:  # ONNX Runtime's errors share no base class below Exception
        line = (str(error).splitlines() or [""])[0][:300]
        raise GpuRefusedError(f"{wanted} cannot load the file: {line}") from error
    session.disable_fallback()
    if session.get_providers()[:1] != [wanted]:
        raise GpuRefusedError(f"{wanted} was asked for, but ONNX Runtime took {session.get_providers()}.")
    return session


def bound(session: Any, images_13HW: Any, device: str) -> tuple[Call, Any]:
    """Return a call with input and output in the device's memory, and that output."""
    import onnxruntime

    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    images = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(images_13HW), device, 0)
    logits = onnxruntime.OrtValue.ortvalue_from_shape_and_type(tuple(given.shape), np.float32, device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(taken.name, images)
    binding.bind_ortvalue_output(given.name, logits)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run, logits


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        "ONNX Runtime's CUDA execution provider with input and output in the GPU's memory, by the clock until the result is "
        "there. A file of which a node would run on the CPU is refused. fp32 has TF32 switched off; fp16 files are written by "
        "prunekit and take and give float32."
    )
    return [how, "", *latency_table(rows)]


STEP = Step(
    "ort-latency",
    "Latency in ONNX Runtime on the GPU, dense against cut",
    (*EXPORT_NEEDS, "onnxruntime"),
    (*EXPORT_NEEDS, "onnxruntime"),
    jobs,
    _table,
)
